# SPDX-License-Identifier: Apache-2.0
"""The kinematic chains of two real arms as URDFs, without meshes and masses.

Franka Panda: the Denavit-Hartenberg parameters and limits of Franka's documentation, the grip point of the Franka Hand.
WidowX 250 S: lengths, axes and limits of wx250s.urdf.xacro in Interbotix/interbotix_ros_manipulators (BSD-3-Clause,
Trossen Robotics). Joint and link names are those of the drivers.
"""

from math import pi, radians
from typing import NamedTuple

from vla_sd_ros.kinematics.arm import ArmKinematics


class Joint(NamedTuple):
    """A joint, the link it moves, where it is in the link before, its axis, limits [rad], [rad/s]."""

    name: str
    child: str
    xyz: str
    rpy: str
    axis: str
    lower: float
    upper: float
    velocity: float


class Chain(NamedTuple):
    """A serial arm; tip: name, xyz and rpy in the last link; home: an ordinary posture."""

    name: str
    base: str
    joints: list[Joint]
    tip: tuple[str, str, str]
    home: list[float]

    @property
    def joint_names(self) -> list[str]:
        return [joint.name for joint in self.joints]

    def urdf(self) -> str:
        parts, parent = [f'<link name="{self.base}"/>'], self.base
        for joint in self.joints:
            parts.append(
                f'<link name="{joint.child}"/><joint name="{joint.name}" type="revolute"><parent link="{parent}"/>'
                f'<child link="{joint.child}"/><origin xyz="{joint.xyz}" rpy="{joint.rpy}"/><axis xyz="{joint.axis}"/>'
                f'<limit lower="{joint.lower!r}" upper="{joint.upper!r}" velocity="{joint.velocity!r}" effort="10"/></joint>'
            )
            parent = joint.child
        tip, xyz, rpy = self.tip
        return (
            f'<robot name="{self.name}">{"".join(parts)}<link name="{tip}"/><joint name="{tip}_joint" type="fixed">'
            f'<parent link="{parent}"/><child link="{tip}"/><origin xyz="{xyz}" rpy="{rpy}"/></joint></robot>'
        )

    def kinematics(self) -> ArmKinematics:
        return ArmKinematics(self.urdf(), self.tip[0], self.joint_names)


RIGHT, LEFT, TURN = f"{pi / 2!r} 0 0", f"{-pi / 2!r} 0 0", pi - 0.00001
PANDA = Chain(
    "panda",
    "panda_link0",
    [
        Joint(f"panda_joint{i}", f"panda_link{i}", xyz, rpy, "0 0 1", lower, upper, velocity)
        for i, (xyz, rpy, lower, upper, velocity) in enumerate(
            [
                ("0 0 0.333", "0 0 0", -2.8973, 2.8973, 2.175),
                ("0 0 0", LEFT, -1.7628, 1.7628, 2.175),
                ("0 -0.316 0", RIGHT, -2.8973, 2.8973, 2.175),
                ("0.0825 0 0", RIGHT, -3.0718, -0.0698, 2.175),
                ("-0.0825 0.384 0", LEFT, -2.8973, 2.8973, 2.61),
                ("0 0 0", RIGHT, -0.0175, 3.7525, 2.61),
                ("0.088 0 0", RIGHT, -2.8973, 2.8973, 2.61),
            ],
            start=1,
        )
    ],
    ("panda_tcp", "0 0 0.2104", f"0 0 {-pi / 4!r}"),
    [0.0, -0.2, 0.0, -2.4, 0.0, 2.2, 0.785],
)
WX250S = Chain(
    "wx250s",
    "wx250s/base_link",
    [
        Joint(name, f"wx250s/{child}", xyz, "0 0 0", axis, lower, upper, pi)
        for name, child, xyz, axis, lower, upper in [
            ("waist", "shoulder_link", "0 0 0.072", "0 0 1", -TURN, TURN),
            ("shoulder", "upper_arm_link", "0 0 0.03865", "0 1 0", radians(-108), radians(114)),
            ("elbow", "upper_forearm_link", "0.04975 0 0.25", "0 1 0", radians(-123), radians(92)),
            ("forearm_roll", "lower_forearm_link", "0.175 0 0", "1 0 0", -TURN, TURN),
            ("wrist_angle", "wrist_link", "0.075 0 0", "0 1 0", radians(-100), radians(123)),
            ("wrist_rotate", "gripper_link", "0.065 0 0", "1 0 0", -TURN, TURN),
        ]
    ],
    ("wx250s/ee_gripper_link", "0.093575 0 0", "0 0 0"),
    [0.0, -0.6, 0.5, 0.0, 0.9, 0.0],
)
