# SPDX-License-Identifier: Apache-2.0
"""Every subcommand has a module with add_arguments and run; --help is quick because it imports none of them."""

import subprocess
import sys
from importlib import import_module

import pytest

from vla_sd_ros.cli import SUBCOMMANDS, main


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_the_module_is_there_and_describes_its_arguments(name, capsys):
    module, summary = SUBCOMMANDS[name]
    assert callable(import_module(module).run) and summary
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0 and summary.split()[0] in capsys.readouterr().out


def test_help_imports_neither_ros_nor_torch_nor_the_simulator():
    code = (
        "import sys; from vla_sd_ros.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print({'rclpy', 'torch', 'mujoco', 'numpy'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.endswith("set()\n")


@pytest.mark.parametrize("arguments", [[], ["no_such_subcommand"]])
def test_no_or_an_unknown_subcommand_exits_2(arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
