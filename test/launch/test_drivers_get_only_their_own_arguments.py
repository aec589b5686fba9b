# SPDX-License-Identifier: Apache-2.0
"""A driver's launch file sees the arguments meant for it and its own defaults, not ours that happen to have the same name."""

import json
import os

import pytest

pytest.importorskip("launch_ros", reason="launch is not on PyPI: only an ordinary ROS installation has it")

# The arguments of franka_bringup's franka.launch.py and their defaults, as far as ours could be taken for them.
DRIVER = """
import json, os
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction

DEFAULTS = {"robot_type": "", "arm_prefix": "", "namespace": "", "robot_ip": "172.16.0.3", "load_gripper": "false",
            "controllers_yaml": "controllers.yaml"}


def note(context):
    with open(os.environ["NOTES"], "w") as file:
        json.dump({name: context.launch_configurations[name] for name in DEFAULTS}, file)


def generate_launch_description():
    return LaunchDescription([*(DeclareLaunchArgument(name, default_value=value) for name, value in DEFAULTS.items()),
                              OpaqueFunction(function=note)])
"""


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A package franka_bringup with that launch file; what its arguments were goes to the file that is returned."""
    share = tmp_path / "share"
    for folder in (share / "franka_bringup" / "launch", share / "ament_index" / "resource_index" / "packages"):
        folder.mkdir(parents=True)
    (share / "ament_index" / "resource_index" / "packages" / "franka_bringup").touch()
    (share / "franka_bringup" / "launch" / "franka.launch.py").write_text(DRIVER)
    monkeypatch.setenv("AMENT_PREFIX_PATH", os.pathsep.join([str(tmp_path), os.environ.get("AMENT_PREFIX_PATH", "")]))
    monkeypatch.setenv("NOTES", str(tmp_path / "notes.json"))
    return tmp_path / "notes.json"


def test_our_namespace_and_our_empty_arguments_do_not_reach_the_driver(driver):
    from launch.actions import OpaqueFunction, SetLaunchConfiguration

    from launch import LaunchDescription, LaunchService
    from vla_sd_ros.bringup import FRANKA, Include, franka
    from vla_sd_ros.launching import _include

    given = {argument.name: argument.default for argument in FRANKA} | {
        "robot_ip": "172.16.0.2",
        "arm_prefix": "left",
        "controller": "servo_pose",
    }
    (include,) = [action for action in franka(given) if isinstance(action, Include)]
    after = {}
    service = LaunchService()
    service.include_launch_description(
        LaunchDescription(
            [
                *(SetLaunchConfiguration(name, value) for name, value in given.items()),
                _include(include),
                OpaqueFunction(function=lambda context: after.update(context.launch_configurations)),
            ]
        )
    )
    assert service.run() == 0
    assert json.loads(driver.read_text()) == {
        "robot_type": "fr3",
        "arm_prefix": "left",
        "namespace": "",
        "robot_ip": "172.16.0.2",
        "load_gripper": "true",
        "controllers_yaml": "controllers.yaml",
    }
    assert after["namespace"] == "vla" and after["controllers_yaml"] == "", "the driver's arguments came out of its file"
