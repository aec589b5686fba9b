# SPDX-License-Identifier: Apache-2.0
"""What the arm really did in one step, in the terms of an action."""
from dataclasses import dataclass

import numpy as np
from pinocchio.rpy import matrixToRpy

LARGEST_STEP = 0.25  # [m]: an end effector that moves farther between two images has jumped, or its joint states have


@dataclass(frozen=True)
class Measured:
    """The end effector when an image was taken: position (3,) [m] and rotation (3, 3) in base axes."""

    position: np.ndarray
    rotation: np.ndarray

    @property
    def finite(self) -> bool:
        return bool(np.all(np.isfinite(self.position)) and np.all(np.isfinite(self.rotation)))


def motion(before: Measured, after: Measured) -> np.ndarray | None:
    """Translation [m] and fixed-axis roll, pitch, yaw [rad] (6,) between two images; None for a jump or a NaN."""
    if not (before.finite and after.finite):
        return None
    translation = after.position - before.position
    if np.linalg.norm(translation) > LARGEST_STEP:
        return None
    return np.concatenate([translation, matrixToRpy(after.rotation @ before.rotation.T)])
