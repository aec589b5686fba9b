# SPDX-License-Identifier: Apache-2.0
"""Kinematics of a serial arm from its URDF, by pinocchio."""

from collections.abc import Sequence

import numpy as np
import pinocchio as pin


class ArmKinematics:
    """Pose and twist of one link (the tip) as functions of the arm's joints.

    Joints of the URDF that are not named (fingers, a mobile base) stay at zero. Lengths in metres, angles in radians,
    everything in the axes of the URDF's root link, which is the robot's base.
    """

    def __init__(self, urdf: str, tip: str, joint_names: Sequence[str]):
        """Raises ValueError, with one sentence, when the URDF does not parse or the tip or a joint is not in it."""
        try:
            full = pin.buildModelFromXML(urdf)
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"the robot description is not a valid URDF: {error}") from error
        links = [frame.name for frame in full.frames if frame.type == pin.FrameType.BODY]
        if tip not in links:
            raise ValueError(f"the robot description has no link '{tip}'; its links are: {', '.join(links)}")
        joints = list(full.names)[1:]  # the first is pinocchio's own, the universe
        missing = [name for name in joint_names if name not in joints]
        if missing:
            raise ValueError(f"the robot description has no movable joint '{missing[0]}'; its movable joints are: "
                             f"{', '.join(joints)}")
        others = [full.getJointId(name) for name in joints if name not in joint_names]
        self._model = pin.buildReducedModel(full, others, pin.neutral(full))
        many = [name for name in joint_names if self._model.joints[self._model.getJointId(name)].nq != 1]
        if many:
            raise ValueError(f"joint '{many[0]}' is not a revolute or prismatic joint with one coordinate")
        self.joint_names = tuple(joint_names)
        self._data = self._model.createData()
        self._tip = self._model.getFrameId(tip)
        # Row of each named joint in pinocchio's vectors, whose order is that of the kinematic tree.
        self._rows = [self._model.joints[self._model.getJointId(name)].idx_q for name in joint_names]

    def forward(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Position (3,) [m] and rotation (3, 3) of the tip at the joint positions q (n,) [rad or m]."""
        pin.framesForwardKinematics(self._model, self._data, self._ordered(q))
        placement = self._data.oMf[self._tip]
        return placement.translation.copy(), placement.rotation.copy()

    def twist(self, q: np.ndarray, dq: np.ndarray) -> np.ndarray:
        """Twist (6,) of the tip, base axes, at the tip: linear [m/s], angular [rad/s]; q and dq are (n,)."""
        pin.forwardKinematics(self._model, self._data, self._ordered(q), self._ordered(dq))
        motion = pin.getFrameVelocity(self._model, self._data, self._tip, pin.ReferenceFrame.LOCAL_WORLD_ALIGNED)
        return np.concatenate([motion.linear, motion.angular])

    def _ordered(self, values: np.ndarray) -> np.ndarray:
        values = np.asarray(values, dtype=float)
        if values.shape != (len(self._rows),):
            raise ValueError(f"expected {len(self._rows)} joint values, one for each of {self.joint_names}, "
                             f"but the shape is {values.shape}")
        ordered = np.empty(len(self._rows))
        ordered[self._rows] = values
        return ordered
