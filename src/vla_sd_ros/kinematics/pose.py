# SPDX-License-Identifier: Apache-2.0
"""The pose of an end effector: moved, interpolated, and the delta of one step composed onto it."""

from dataclasses import dataclass

import numpy as np
from pinocchio import exp3, log3
from pinocchio.rpy import rpyToMatrix


@dataclass(frozen=True)
class Pose:
    """Position (3,) [m] and rotation (3, 3) of the end effector in the robot's base frame."""

    position: np.ndarray
    rotation: np.ndarray

    @property
    def finite(self) -> bool:
        """Whether every number of it is finite."""
        return bool(np.all(np.isfinite(self.position)) and np.all(np.isfinite(self.rotation)))

    def moved(self, displacement: np.ndarray) -> "Pose":
        """This pose after a displacement (6,): translation [m] and rotation vector [rad], both in base axes."""
        return Pose(self.position + displacement[:3], exp3(displacement[3:]) @ self.rotation)

    def displacement_to(self, other: "Pose") -> np.ndarray:
        """The displacement (6,) for which `self.moved(displacement)` is `other`; its rotation is at most pi."""
        return np.concatenate([other.position - self.position, log3(other.rotation @ self.rotation.T)])

    def attached(self, offset: "Pose") -> "Pose":
        """The pose of what is fixed to this one at `offset`, which is in the axes of this one."""
        return Pose(self.position + self.rotation @ offset.position, self.rotation @ offset.rotation)


def delta_displacement(translation: np.ndarray, rpy: np.ndarray) -> np.ndarray:
    """The delta of one step as a displacement (6,).

    Fixed-axis roll, pitch, yaw [rad], as in bridge_orig: the rotation is Rz(yaw) Ry(pitch) Rx(roll) about the end
    effector, in base axes.
    """
    return np.concatenate([translation, log3(rpyToMatrix(*(float(angle) for angle in rpy)))])


def interpolate(start: Pose, end: Pose, share: float) -> Pose:
    """The pose at a share 0..1 of the way: linear in position, along the geodesic in rotation."""
    return start.moved(share * start.displacement_to(end))
