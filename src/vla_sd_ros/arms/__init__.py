# SPDX-License-Identifier: Apache-2.0
"""The robot's side of arm_node: one small file for each interface that an arm or a gripper may have.

    arm = make_arm(node)                         # parameter arm.interface; ImportError: its message package is missing
    arm.send(now, target, measured, joints)      # at every tick, from the first command on
    arm.fault(now)                               # one sentence while the robot does not take what is sent
    controllers = Controllers(node)              # (controllers.py) whether its controller is active, and the way back
    gripper = make_gripper(node)                 # parameter gripper.interface
    gripper.send(now, 1.0, goal)                 # with every command: 1.0 open, 0.0 closed; only what changes goes out

`node` is an rclpy node whose parameters are the dictionary `node.values`, always the newest. Like nodes/, which uses
it, this room knows ROS; what is sent has been limited in control/ before.
"""

import importlib
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from vla_sd_ros.control.gripper import State
from vla_sd_ros.kinematics.pose import Pose
from vla_sd_ros.sources import advice

ARMS = ("pose_target", "servo_twist", "servo_pose", "joint_trajectory", "interbotix_joint_group")
GRIPPERS = ("topic", "gripper_command", "parallel_gripper_command", "franka", "interbotix_joint_single")


class Arm(Protocol):
    """What takes the stream of limited targets to the controller of an arm. No method waits for anything."""

    offset: Pose
    """Of the link that the controller moves, in the axes of the link that the targets are for; joints need none."""

    def send(self, now: float, target: Pose, measured: Pose, joints: np.ndarray) -> None:
        """Send the target pose at time `now` [s, steady] and its joint positions (n,) [rad]; measured: the arm's pose."""

    def fault(self, now: float) -> str:
        """One sentence that says why the robot does not follow what is sent; empty while nothing is known against it.

        To be asked at every tick of which `send` is called, before it.
        """

    def leave(self, measured: Pose) -> None:
        """The controller is inactive, the arm here: what the controller keeps for its next activation must be this."""

    def rest(self) -> None:
        """Nothing is sent from here on until the next `send`, which may be elsewhere."""

    def close(self) -> None:
        """Release what was created on the node."""


class Gripper(Protocol):
    """What takes openings of the gripper to its driver. No method waits for anything."""

    def send(self, now: float, opening: float, goal: bytes) -> None:
        """Open (1.0) or close (0.0), at time `now` [s, steady], for the goal of this id; said with every command of it.

        A driver that confirms what it did is sent what it has not confirmed yet, one that does not what changes, and
        everything anew for a new goal.
        """

    def poll(self, now: float) -> None:
        """Called at 10 Hz with the steady time [s]: for what can only be done later."""

    def home(self, now: float) -> str:
        """Home the fingers; returns one sentence where that cannot be, otherwise nothing."""

    def state(self) -> State:
        """Where the gripper is, as its driver has confirmed it; where it confirms nothing, what it was sent."""

    def problem(self) -> str:
        """One sentence while the driver does not do what was asked; empty otherwise."""

    def rest(self) -> None:
        """arm_node does not watch over it from here on until the next `send`: nothing begins, no motor goes on pushing."""

    def close(self) -> None:
        """Release what was created on the node."""


def make_arm(node: Any) -> Arm:
    """The arm that the parameter arm.interface names."""
    from vla_sd_ros.arms.interbotix import JointGroup
    from vla_sd_ros.arms.joint_trajectory import JointTrajectoryTopic
    from vla_sd_ros.arms.pose_target import PoseTarget
    from vla_sd_ros.arms.servo import ServoPose, ServoTwist

    makers: tuple[Callable[[Any], Arm], ...] = (PoseTarget, ServoTwist, ServoPose, JointTrajectoryTopic, JointGroup)
    return dict(zip(ARMS, makers, strict=True))[node.values["arm.interface"]](node)


def make_gripper(node: Any) -> Gripper:
    """The gripper that the parameter gripper.interface names."""
    from vla_sd_ros.arms.gripper_action import GripperCommand, ParallelGripperCommand
    from vla_sd_ros.arms.gripper_franka import FrankaGripper
    from vla_sd_ros.arms.gripper_topic import GripperTopic
    from vla_sd_ros.arms.interbotix import JointSingle

    makers: tuple[Callable[[Any], Gripper], ...] = (
        GripperTopic,
        GripperCommand,
        ParallelGripperCommand,
        FrankaGripper,
        JointSingle,
    )
    return dict(zip(GRIPPERS, makers, strict=True))[node.values["gripper.interface"]](node)


def required(module: str, interface: str, instead: str = "choose another interface") -> Any:
    """A module of message types that not every machine has; ImportError with one sentence where it is missing."""
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"the interface {interface} needs the ROS package {package}, which cannot be imported ({error}): {advice(package)}; "
            f"or {instead}"
        ) from error
