# SPDX-License-Identifier: Apache-2.0
"""Simulated WidowX 250 S and Franka arms without dynamics: their kinematics as URDF, and how their drivers move them.

Lengths and limits are those of the makers' descriptions (interbotix_xsarm_descriptions, franka_description); links are
drawn as cylinders. No ROS here; time is what the caller says.
"""

import math
from xml.etree import ElementTree

import numpy as np

from vla_sd_ros.kinematics.arm import ArmKinematics
from vla_sd_ros.kinematics.pose import Pose

PI, DEGREE = math.pi, math.pi / 180.0
# joint, child link, xyz [m], rpy [rad], axis, lower, upper [rad or m], velocity [rad/s or m/s]; no axis: fixed
WIDOWX = (
    ("waist", "shoulder_link", (0, 0, 0.072), (0, 0, 0), (0, 0, 1), -PI, PI, PI),
    ("shoulder", "upper_arm_link", (0, 0, 0.03865), (0, 0, 0), (0, 1, 0), -108 * DEGREE, 114 * DEGREE, PI),
    ("elbow", "upper_forearm_link", (0.04975, 0, 0.25), (0, 0, 0), (0, 1, 0), -123 * DEGREE, 92 * DEGREE, PI),
    ("forearm_roll", "lower_forearm_link", (0.175, 0, 0), (0, 0, 0), (1, 0, 0), -PI, PI, PI),
    ("wrist_angle", "wrist_link", (0.075, 0, 0), (0, 0, 0), (0, 1, 0), -100 * DEGREE, 123 * DEGREE, PI),
    ("wrist_rotate", "gripper_link", (0.065, 0, 0), (0, 0, 0), (1, 0, 0), -PI, PI, PI),
    ("ee_bar", "fingers_link", (0.066, 0, 0), (0, 0, 0), None, 0, 0, 0),
    ("ee_gripper", "ee_gripper_link", (0.027575, 0, 0), (0, 0, 0), None, 0, 0, 0),
)
FRANKA = (
    ("joint1", "link1", (0, 0, 0.333), (0, 0, 0), (0, 0, 1), -2.7437, 2.7437, 2.62),
    ("joint2", "link2", (0, 0, 0), (-PI / 2, 0, 0), (0, 0, 1), -1.7837, 1.7837, 2.62),
    ("joint3", "link3", (0, -0.316, 0), (PI / 2, 0, 0), (0, 0, 1), -2.9007, 2.9007, 2.62),
    ("joint4", "link4", (0.0825, 0, 0), (PI / 2, 0, 0), (0, 0, 1), -3.0421, -0.1518, 2.62),
    ("joint5", "link5", (-0.0825, 0.384, 0), (-PI / 2, 0, 0), (0, 0, 1), -2.8065, 2.8065, 5.26),
    ("joint6", "link6", (0, 0, 0), (PI / 2, 0, 0), (0, 0, 1), 0.5445, 4.5169, 4.18),
    ("joint7", "link7", (0.088, 0, 0), (PI / 2, 0, 0), (0, 0, 1), -3.0159, 3.0159, 5.26),
    ("hand_joint", "hand", (0, 0, 0.107), (0, 0, -PI / 4), None, 0, 0, 0),
    ("hand_tcp_joint", "hand_tcp", (0, 0, 0.1034), (0, 0, 0), None, 0, 0, 0),
)
# The fingers: joint, child, parent, axis, lower, upper [m]; the second one mirrors the first.
WIDOWX_FINGERS = (
    ("left_finger", "left_finger_link", "fingers_link", (0, 1, 0), 0.015, 0.037),
    ("right_finger", "right_finger_link", "fingers_link", (0, 1, 0), -0.037, -0.015),
)
FRANKA_FINGERS = (
    ("finger_joint1", "leftfinger", "hand_tcp", (0, 1, 0), 0.0, 0.04),
    ("finger_joint2", "rightfinger", "hand_tcp", (0, -1, 0), 0.0, 0.04),
)
WIDOWX_HOME = np.array([0.0, -0.5, 0.6, 0.0, 1.2, 0.0])  # above the table, gripper pointing down and forward
FRANKA_HOME = np.array([0.0, -PI / 4, 0.0, -3 * PI / 4, 0.0, PI / 2, PI / 4])


class Description:
    """Names and URDF of one arm; `prefix` as its driver has it: wx250s (links wx250s/...), fr3 (fr3_joint1 ...)."""

    def __init__(self, robot: str, prefix: str):
        """robot: widowx or franka."""
        table, fingers = (WIDOWX, WIDOWX_FINGERS) if robot == "widowx" else (FRANKA, FRANKA_FINGERS)
        self.home = WIDOWX_HOME if robot == "widowx" else FRANKA_HOME
        joint = (lambda name: name) if robot == "widowx" else (lambda name: f"{prefix}_{name}")
        link = (lambda name: f"{prefix}/{name}") if robot == "widowx" else (lambda name: f"{prefix}_{name}")
        self.base, self.tip = link("base_link" if robot == "widowx" else "link0"), link(table[-1][1])
        self.joints = [joint(row[0]) for row in table if row[4]]
        self.limits = np.array([row[5:8] for row in table if row[4]], dtype=float)  # (n, 3): lower, upper, velocity
        self.fingers = [joint(row[0]) for row in fingers]
        self.finger_range = np.array([fingers[0][4], fingers[0][5]])  # m, of the first
        self.mirrored = fingers[1][4] < 0.0  # the second finger's coordinate is the negative of the first's
        self.urdf = self._urdf(prefix, table, fingers, joint, link)
        self.kinematics = ArmKinematics(self.urdf, self.tip, self.joints)

    def _urdf(self, prefix, table, fingers, joint, link) -> str:
        robot = ElementTree.Element("robot", name=prefix)
        parent = self.base
        for name, child, xyz, rpy, axis, lower, upper, velocity in table:
            _link(robot, parent, xyz)
            _joint(
                robot,
                joint(name),
                "revolute" if axis else "fixed",
                parent=parent,
                child=link(child),
                xyz=xyz,
                rpy=rpy,
                axis=axis,
                limit=(lower, upper, velocity),
            )
            parent = link(child)
        _link(robot, parent, (0, 0, 0.02))
        for name, child, holder, axis, lower, upper in fingers:
            _link(robot, link(child), (0.03, 0, 0))
            _joint(
                robot,
                joint(name),
                "prismatic",
                parent=link(holder),
                child=link(child),
                xyz=(0, 0, 0),
                rpy=(0, 0, 0),
                axis=axis,
                limit=(lower, upper, 1.0),
            )
        ElementTree.indent(robot)
        return ElementTree.tostring(robot, encoding="unicode")


class ProfiledMotors:
    """Position-controlled motors in the time-based profile of Dynamixel: every goal is reached in the same time.

    A new goal starts a new profile from the present position and velocity, here a cubic. It takes longer only where a
    joint would exceed its velocity: so a stream of goals under a profile of 2 s lags by more than a second.
    """

    def __init__(self, position: np.ndarray, limits: np.ndarray, profile: float, now: float):
        """limits (n, 3): lower, upper, velocity. profile [s]: time to each goal."""
        self.position, self.velocity = np.array(position, dtype=float), np.zeros(len(position))
        self._limits, self._profile = limits, profile
        self._from, self._goal, self._begin, self._time = self.position, self.position, now, np.full(len(position), profile)
        self._start_velocity = self.velocity

    def command(self, goal: np.ndarray, now: float) -> None:
        """Go to the goal (n,), clipped into the limits. ValueError, with one sentence, when it cannot be one."""
        goal = np.asarray(goal, dtype=float)
        if goal.shape != self.position.shape or not np.all(np.isfinite(goal)):
            raise ValueError(f"expected {len(self.position)} finite positions, not {goal.tolist()}")
        self.step(now)
        self._from, self._start_velocity, self._begin = self.position, self.velocity, now
        self._goal = np.clip(goal, self._limits[:, 0], self._limits[:, 1])
        # The greatest speed of the cubic from rest is 1.5 times the mean.
        self._time = np.maximum(self._profile, 1.5 * np.abs(self._goal - self._from) / self._limits[:, 2])

    def step(self, now: float) -> None:
        """Move on to the time `now` [s]."""
        s = np.clip((now - self._begin) / self._time, 0.0, 1.0)
        slope, way = self._start_velocity * self._time, self._goal - self._from
        self.position = self._from + slope * s + (3.0 * way - 2.0 * slope) * s**2 + (slope - 2.0 * way) * s**3
        self.velocity = (slope + 2.0 * (3.0 * way - 2.0 * slope) * s + 3.0 * (slope - 2.0 * way) * s**2) / self._time


class PoseFollower:
    """An arm behind a Cartesian controller, as crisp_controllers: goes to the last target pose, and holds it on silence."""

    STIFFNESS = 15.0  # 1/s: the arm lags its target by about 0.07 s

    def __init__(self, description: Description, now: float):
        self._kinematics, self._limits = description.kinematics, description.limits
        self.position, self.velocity = description.home.copy(), np.zeros(len(description.home))
        self._target = Pose(*self._kinematics.forward(self.position))
        self._now = now

    def command(self, target: Pose) -> None:
        """Go to the target from here on."""
        self._target = target

    def step(self, now: float) -> None:
        """Move on to the time `now` [s]."""
        dt, self._now = min(max(now - self._now, 0.0), 0.1), now
        error = Pose(*self._kinematics.forward(self.position)).displacement_to(self._target)
        jacobian = self._kinematics.jacobian(self.position)
        damped = jacobian @ jacobian.T + 1e-4 * np.eye(6)
        velocity = jacobian.T @ np.linalg.solve(damped, self.STIFFNESS * error)
        velocity /= max(1.0, np.max(np.abs(velocity) / self._limits[:, 2]))
        moved = np.clip(self.position + dt * velocity, self._limits[:, 0], self._limits[:, 1])
        self.velocity = (moved - self.position) / dt if dt > 0.0 else np.zeros(len(moved))
        self.position = moved


def _numbers(values) -> str:
    return " ".join(repr(float(value)) for value in values)


def _link(robot: ElementTree.Element, name: str, towards) -> None:
    """A link drawn as a cylinder from its origin `towards` the next joint."""
    element = ElementTree.SubElement(robot, "link", name=name)
    length = math.sqrt(sum(value * value for value in towards))
    if length < 1e-6:
        return
    x, y, z = (value / length for value in towards)
    visual = ElementTree.SubElement(element, "visual")
    ElementTree.SubElement(
        visual,
        "origin",
        xyz=_numbers(value / 2 for value in towards),
        rpy=_numbers((0.0, math.atan2(math.hypot(x, y), z), math.atan2(y, x))),
    )
    geometry = ElementTree.SubElement(visual, "geometry")
    ElementTree.SubElement(geometry, "cylinder", radius="0.025", length=repr(length))


def _joint(robot, name, kind, *, parent, child, xyz, rpy, axis, limit) -> None:
    element = ElementTree.SubElement(robot, "joint", name=name, type=kind)
    ElementTree.SubElement(element, "parent", link=parent)
    ElementTree.SubElement(element, "child", link=child)
    ElementTree.SubElement(element, "origin", xyz=_numbers(xyz), rpy=_numbers(rpy))
    if axis:
        lower, upper, velocity = map(repr, map(float, limit))
        ElementTree.SubElement(element, "axis", xyz=_numbers(axis))
        ElementTree.SubElement(element, "limit", lower=lower, upper=upper, velocity=velocity, effort="20.0")
