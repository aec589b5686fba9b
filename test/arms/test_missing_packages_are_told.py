# SPDX-License-Identifier: Apache-2.0
"""A message package that is not installed is one sentence when its interface is asked for, and nothing before."""

import sys

import pytest

from vla_sd_ros.arms import ARMS, GRIPPERS, make_arm, make_gripper

NEEDS = {
    "servo_twist": "moveit_msgs",
    "servo_pose": "moveit_msgs",
    "interbotix_joint_group": "interbotix_xs_msgs",
    "gripper_command": "control_msgs",
    "parallel_gripper_command": "control_msgs",
    "franka": "franka_msgs",
    "interbotix_joint_single": "interbotix_xs_msgs",
}


@pytest.mark.parametrize("interface", ARMS + GRIPPERS)
def test_the_sentence_names_the_package(bench, monkeypatch, interface):
    for package in set(NEEDS.values()):
        for module in (package, f"{package}.msg", f"{package}.action", f"{package}.srv"):
            monkeypatch.setitem(sys.modules, module, None)  # `import` raises ImportError
    bench.node.values["arm.tip_link"] = "panda_tcp"
    bench.node.values["arm.interface" if interface in ARMS else "gripper.interface"] = interface

    def make():
        return make_arm(bench.node) if interface in ARMS else make_gripper(bench.node)

    if interface not in NEEDS:
        make().close()
        return
    with pytest.raises(ImportError, match=f"the interface {interface} needs the ROS package {NEEDS[interface]}"):
        make()
