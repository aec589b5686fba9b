# SPDX-License-Identifier: Apache-2.0
"""Where the ROS packages come from that some arms need and that this package does not depend on."""

import os

GITHUB = "https://github.com/"
# In no ROS distribution, so that rosdep cannot install them: repository and branch.
REPOSITORIES = {
    "crisp_controllers": ("utiasDSL/crisp_controllers", "main"),
    "cartesian_motion_controller": ("fzi-forschungszentrum-informatik/cartesian_controllers", "ros2"),
    "franka_bringup": ("frankarobotics/franka_ros2", "jazzy"),
    "franka_msgs": ("frankarobotics/franka_ros2", "jazzy"),
    "interbotix_xsarm_control": ("Interbotix/interbotix_ros_manipulators", "jazzy"),
    "interbotix_xs_msgs": ("Interbotix/interbotix_ros_core", "jazzy"),
    "trossen_arm_bringup": ("TrossenRobotics/trossen_arm_ros", "jazzy"),
}
# The messages of an interface of arm_node (arm.interface, gripper.interface); the others need none but their own.
MESSAGES = {
    "servo_twist": "moveit_msgs",
    "servo_pose": "moveit_msgs",
    "interbotix_joint_group": "interbotix_xs_msgs",
    "gripper_command": "control_msgs",
    "parallel_gripper_command": "control_msgs",
    "franka": "franka_msgs",
    "interbotix_joint_single": "interbotix_xs_msgs",
}


def advice(package: str) -> str:
    """How a ROS package that is missing is installed, on this machine's distribution (ROS_DISTRO)."""
    distribution = os.environ.get("ROS_DISTRO", "")
    if package in REPOSITORIES:
        repository, branch = REPOSITORIES[package]
        other = f", there is none for {distribution}" if branch == "jazzy" and distribution not in ("", branch) else ""
        return (
            f"it is in no ROS distribution: clone {GITHUB}{repository} (branch {branch}{other}) into your workspace, "
            "build and source it"
        )
    if distribution:
        return f"sudo apt install ros-{distribution}-{package.replace('_', '-')}"
    return f"there is no wheel of it: an ordinary ROS installation has it as ros-$ROS_DISTRO-{package.replace('_', '-')}"
