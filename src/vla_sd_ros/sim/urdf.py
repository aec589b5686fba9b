# SPDX-License-Identifier: Apache-2.0
"""The simulated arm's kinematics as URDF, read from the compiled MuJoCo model so that both agree exactly."""

from xml.etree import ElementTree

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

VELOCITY_LIMITS = (2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61)  # [rad/s], Franka's data sheet
EFFORT_LIMITS = (87, 87, 87, 87, 12, 12, 12)  # [Nm], Franka's data sheet


def panda_urdf(model: mujoco.MjModel) -> str:
    """URDF of robosuite's Panda: panda_link0 .. panda_link7, panda_tcp (grip point), two fingers.

    Links are drawn as thin cylinders, the meshes are not ours to redistribute.
    """
    robot = ElementTree.Element("robot", name="panda")
    _link(robot, "panda_link0", 0.333)
    for i in range(1, 8):
        body = model.body(f"robot0_link{i}").id
        joint = model.joint(f"robot0_joint{i}").id
        _link(robot, f"panda_link{i}", 0.1)
        place = model.body_pos[body], model.body_quat[body]
        element = _joint(robot, f"panda_joint{i}", "revolute", f"panda_link{i - 1}", f"panda_link{i}", *place)
        _moves(element, model.jnt_axis[joint], model.jnt_range[joint], VELOCITY_LIMITS[i - 1], EFFORT_LIMITS[i - 1])

    position, quaternion = _relative(model, model.site("gripper0_grip_site").id, model.body("robot0_link7").id)
    _link(robot, "panda_tcp", 0.02)
    _joint(robot, "panda_tcp_joint", "fixed", "panda_link7", "panda_tcp", position, quaternion)
    for i, sign in ((1, 1.0), (2, -1.0)):
        _link(robot, f"panda_finger{i}", 0.02)
        element = _joint(robot, f"panda_finger_joint{i}", "prismatic", "panda_tcp", f"panda_finger{i}", np.zeros(3), [1.0, 0, 0, 0])
        _moves(element, (0, sign, 0), (0.0, 0.04), 0.4, 20)
    ElementTree.indent(robot)
    return ElementTree.tostring(robot, encoding="unicode")


def with_camera(urdf: str, position: np.ndarray, rotation: np.ndarray) -> str:
    """The URDF with the link camera_optical_frame fixed to panda_link0 at position (3,) [m], rotation (3, 3)."""
    robot = ElementTree.fromstring(urdf)
    ElementTree.SubElement(robot, "link", name="camera_optical_frame")
    quaternion = Rotation.from_matrix(rotation).as_quat()[[3, 0, 1, 2]]
    _joint(robot, "camera_joint", "fixed", "panda_link0", "camera_optical_frame", position, quaternion)
    ElementTree.indent(robot)
    return ElementTree.tostring(robot, encoding="unicode")


def _relative(model: mujoco.MjModel, site: int, ancestor: int) -> tuple[np.ndarray, np.ndarray]:
    """Position (3,) and quaternion (w, x, y, z) of a site in the frame of a body above it, over fixed bodies only."""
    position, rotation = model.site_pos[site].copy(), _rotation(model.site_quat[site])
    body = int(model.site_bodyid[site])
    while body != ancestor:
        outer = _rotation(model.body_quat[body])
        position = model.body_pos[body] + outer.apply(position)
        rotation = outer * rotation
        body = int(model.body_parentid[body])
    return position, rotation.as_quat()[[3, 0, 1, 2]]


def _rotation(quaternion: np.ndarray) -> Rotation:
    return Rotation.from_quat(np.asarray(quaternion)[[1, 2, 3, 0]])


def _link(robot: ElementTree.Element, name: str, length: float) -> None:
    visual = ElementTree.SubElement(ElementTree.SubElement(robot, "link", name=name), "visual")
    ElementTree.SubElement(visual, "origin", xyz=f"0 0 {length / 2}")
    ElementTree.SubElement(ElementTree.SubElement(visual, "geometry"), "cylinder", radius="0.03", length=str(length))


def _joint(robot, name: str, kind: str, parent: str, child: str, position, quaternion) -> ElementTree.Element:
    element = ElementTree.SubElement(robot, "joint", name=name, type=kind)
    ElementTree.SubElement(element, "parent", link=parent)
    ElementTree.SubElement(element, "child", link=child)
    roll_pitch_yaw = _rotation(quaternion).as_euler("xyz")
    ElementTree.SubElement(element, "origin", xyz=_numbers(position), rpy=_numbers(roll_pitch_yaw))
    return element


def _moves(joint: ElementTree.Element, axis, limits, velocity: float, effort: float) -> None:
    """How a joint moves: about or along axis (3,), between two limits [rad, m], at most so fast [rad/s, m/s] and strong [Nm, N]."""
    ElementTree.SubElement(joint, "axis", xyz=_numbers(axis))
    low, high = (repr(float(limit)) for limit in limits)
    ElementTree.SubElement(joint, "limit", lower=low, upper=high, velocity=str(velocity), effort=str(effort))


def _numbers(values) -> str:
    return " ".join(repr(float(value)) for value in values)
