# SPDX-License-Identifier: Apache-2.0
"""Arms by pip: the vendor's own library, of an extra, behind one small interface. No ROS in this room.

    robot = franka.Franka(settings)      # connects; RobotError says in one sentence why it could not
    robot.read()                         # a Reading, or None while the robot says nothing new
    robot.follow(pose, twist)            # the newest target of the tip; the vendor's real-time loop goes there
    robot.rest()                         # no target came for a while: stay where the last one was
    robot.stop()                         # come to rest, give up control

nodes/driver_node.py puts one of them behind the topics that arm_node knows. gate.py decides which targets it gets.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from vla_sd_ros.kinematics.pose import Pose


class RobotError(RuntimeError):
    """The robot cannot do what it was asked; the message is one sentence with the vendor's own reason."""


@dataclass(frozen=True)
class Reading:
    """What the robot measures: joints (n,) [rad], their velocities (n,) [rad/s], positions of the fingers [m]."""

    joints: np.ndarray
    velocities: np.ndarray
    fingers: tuple[float, ...]


class Robot(Protocol):
    """An arm with its hand. Only `recover`, `home`, `home_gripper` and `stop` may take more than a few milliseconds."""

    description: str
    """URDF, as the robot itself has it."""
    fingers: tuple[str, ...]
    """Names of the fingers' joints."""
    fault: str
    """One sentence while the robot takes no targets; empty otherwise."""

    def read(self) -> Reading | None:
        """What is measured now; None where nothing new has come. Finds out about faults; never raises."""

    def pose(self, joints: np.ndarray) -> Pose:
        """Where the tip is at joint positions (n,) [rad], in the axes of the base."""

    def follow(self, target: Pose, twist: np.ndarray) -> None:
        """Go to a target of the tip; twist (6,) [m/s, rad/s]: how fast the target moves.

        RobotError: this target cannot be, and the robot stays where it is. Sets `fault` where the robot has stopped.
        """

    def rest(self) -> None:
        """The targets have paused: stay at the last one."""

    def grip(self, position: float) -> None:
        """Put the fingers there [m], in the units of the driver's parameters; returns at once."""

    def gripper_problem(self) -> str:
        """One sentence while the gripper does not do what was asked; empty otherwise."""

    def home(self, forbidden: Callable[[], str] = lambda: "") -> None:
        """Go to the home posture, slowly, and wait for it. RobotError.

        forbidden: asked all the way; why the arm must hold where it is, empty while it may go on.
        """

    def home_gripper(self) -> None:
        """Home the fingers, and wait for it. RobotError."""

    def recover(self) -> None:
        """Take the robot out of its fault and hold it where it is. RobotError where that fails."""

    def stop(self) -> None:
        """Come to rest, and leave the robot. Never raises."""


def library(name: str, extra: str, what: str) -> Any:
    """The vendor's library. RobotError, one sentence, where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise RobotError(
            f"{what} needs the Python package {name}, which cannot be imported ({error}): pip install 'vla_sd_ros[{extra}]'"
        ) from error
