# SPDX-License-Identifier: Apache-2.0
"""What the arm really did in one step, in the terms of an action."""

import numpy as np
from pinocchio.rpy import matrixToRpy

from vla_sd_ros.kinematics.pose import Pose

LARGEST_STEP = 0.25  # [m]: an end effector that moves farther between two images has jumped, or its joint states have


def motion(before: Pose, after: Pose) -> np.ndarray | None:
    """Translation [m] and fixed-axis roll, pitch, yaw [rad] (6,) between two images; None for a jump or a NaN."""
    if not (before.finite and after.finite):
        return None
    translation = after.position - before.position
    if np.linalg.norm(translation) > LARGEST_STEP:
        return None
    return np.concatenate([translation, matrixToRpy(after.rotation @ before.rotation.T)])
