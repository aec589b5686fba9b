# SPDX-License-Identifier: Apache-2.0
"""With the real `ros2 launch`: what cannot work is one sentence and exit code 1, and no process is left, whenever it fails."""

import importlib.util
import os
import signal
import stat

import pytest
from ament_index_python.packages import get_packages_with_prefixes

DRIVER = """
from launch import LaunchDescription
from launch.actions import ExecuteProcess
from launch_ros.actions import Node


def generate_launch_description():
    return LaunchDescription([ExecuteProcess(cmd=["sleep", "300"], output="screen"), {more}])
"""


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Installs packages by which a real Franka is started; the driver has one process, and then `more`."""
    pytest.importorskip("controller_manager_msgs", reason="an ordinary ROS installation has it; there is no wheel of it")

    def install(more: str, spawner: str) -> None:
        for package in ("franka_bringup", "controller_manager", "crisp_controllers"):
            marker = tmp_path / "share" / "ament_index" / "resource_index" / "packages" / package
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.touch()
            (tmp_path / "share" / package / "launch").mkdir(parents=True)
        (tmp_path / "share" / "franka_bringup" / "launch" / "franka.launch.py").write_text(DRIVER.format(more=more))
        executable = tmp_path / "lib" / "controller_manager" / "spawner"
        executable.parent.mkdir(parents=True)
        executable.write_text(f"#!/bin/sh\n{spawner}\n")
        executable.chmod(stat.S_IRWXU)
        # Nothing here takes the gripper's action, whose messages need not be installed.
        (tmp_path / "mine.yaml").write_text("/**/arm_node: {ros__parameters: {gripper.interface: topic}}\n")
        monkeypatch.setenv("AMENT_PREFIX_PATH", os.pathsep.join([str(tmp_path), os.environ.get("AMENT_PREFIX_PATH", "")]))

    return install


def ends(process, code: int = 1) -> str:
    """What it said, when it has ended with this exit code and nothing is left."""
    assert process.process.wait(60.0) == code, process.said
    assert not process.left(), process.said
    return process.said


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (("sim.launch.py", "params_file:=typo.yaml"), "params_file:=typo.yaml: there is no file"),
        (("sim.launch.py", "task:=abc"), "task:=abc is no index"),
        (("franka.launch.py", "driver:=sim", "load_gripper:=false"), "load_gripper:=false needs driver"),
    ],
)
def test_what_cannot_work_starts_nothing(launch, arguments, sentence):
    said = ends(launch(*arguments))
    assert sentence in said and "process started" not in said and "Traceback" not in said
    assert sum("[ERROR]" in line for line in said.splitlines()) == 1


def test_without_rviz_nothing_is_started_for_it(launch):
    if "rviz2" in get_packages_with_prefixes():
        pytest.skip("rviz2 is installed")
    said = ends(launch("sim.launch.py", "use_rviz:=true"))
    assert "use_rviz:=true needs rviz2, which is not installed" in said and "process started" not in said


@pytest.mark.skipif(importlib.util.find_spec("interbotix_xs_msgs") is not None, reason="interbotix_xs_msgs is installed")
def test_without_the_drivers_messages_the_simulated_widowx_starts_nothing(launch):
    said = ends(launch("sim.launch.py", "arm:=widowx"))
    assert "needs the ROS package interbotix_xs_msgs" in said and "Interbotix/interbotix_ros_core (branch jazzy)" in said
    assert "process started" not in said


def test_a_driver_that_fails_after_its_first_process_leaves_none(launch, driver):
    driver(more='Node(package="nowhere", executable="node")', spawner="exec sleep 300")
    said = ends(launch("franka.launch.py", "robot_ip:=192.0.2.1", "params_file:=mine.yaml"))
    assert "[sleep-1]: process started" in said and "nowhere" in said


def test_a_controller_that_cannot_be_loaded_ends_all_with_exit_code_1(launch, driver):
    driver(more="", spawner="sleep 3; exit 1")
    said = ends(launch("franka.launch.py", "robot_ip:=192.0.2.1", "params_file:=mine.yaml", "autostart:=false"))
    assert "[sleep-1]: process started" in said and "spawner ended with exit code 1" in said


def test_a_node_that_cannot_start_is_the_exit_code_of_the_launch(launch, tmp_path):
    (tmp_path / "mine.yaml").write_text("/**/sim_node: {ros__parameters: {camera_rate: 99.0}}\n")
    said = ends(launch("sim.launch.py", "autostart:=false", "params_file:=mine.yaml"))
    assert "could not start: parameter 'camera_rate' is 99.0" in said
    assert "sim_node ended with exit code 1" in said


def test_log_level_is_that_of_our_nodes_and_not_of_the_middleware(launch):
    process = launch("franka.launch.py", "driver:=none", "nodes:=vla", "log_level:=debug")
    process.wait_for(r"\[DEBUG\] .*\[vla.vla_node\]: Traceback")
    process.process.send_signal(signal.SIGINT)
    said = ends(process, code=0)
    debug = [line for line in said.splitlines() if "[DEBUG]" in line]
    assert all("[vla.vla_node]" in line for line in debug) and len(debug) < 100
