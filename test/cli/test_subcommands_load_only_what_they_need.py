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


HELP = """from vla_sd_ros.cli import main
try: main(['--help'])
except SystemExit: pass"""
NAMES = """from vla_sd_ros.decoding.settings import DECODERS
print(DECODERS)"""
CHECK = """from vla_sd_ros.decoding import parameter_file
try: parameter_file.check_settings({'relaxed_radius': 'nine'})
except ValueError: print('refused')"""


@pytest.mark.parametrize(
    "code, said, absent",
    [
        (HELP, "build-db", {"rclpy", "torch", "mujoco", "numpy"}),
        (NAMES, "prefill_jacobi", {"rclpy", "torch", "mujoco"}),
        (CHECK, "refused", {"rclpy", "torch", "mujoco"}),
    ],
    ids=["--help", "the names of the decoders", "whether a setting can be used"],
)
def test_what_is_told_at_once_imports_nothing_large(code, said, absent):
    code = f"{code}\nimport sys\nprint({absent} & set(sys.modules))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said in output and output.endswith("set()\n")


@pytest.mark.parametrize("arguments", [[], ["no_such_subcommand"]])
def test_no_or_an_unknown_subcommand_exits_2(arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
