# SPDX-License-Identifier: Apache-2.0
"""Whether something else has moved the arm while it holds: then the held target is no longer where the arm should be."""

from vla_sd_ros.control.following import apart
from vla_sd_ros.control.tracker import Limits
from vla_sd_ros.kinematics.pose import Pose

AWAY_DISTANCE, AWAY_ANGLE = 0.05, 0.3  # m, rad
LEAP_DISTANCE, LEAP_ANGLE = 0.01, 0.05  # m, rad


def leapt(before: Pose, pose: Pose, dt: float, limits: Limits) -> str:
    """What happened when the arm went farther within dt [s] than its limits let it, as a sentence; empty where it did not."""
    distance, angle = apart(before, pose)
    if distance > LEAP_DISTANCE + limits.linear_velocity * dt or angle > LEAP_ANGLE + limits.angular_velocity * dt:
        return "the arm was put elsewhere while it was holding, so the held target is given up"
    return ""


def moved_away(held: Pose, pose: Pose) -> str:
    """What happened when the arm is far from the target that it holds, as a sentence; empty where it is not."""
    distance, angle = apart(held, pose)
    if distance > AWAY_DISTANCE or angle > AWAY_ANGLE:
        return (
            f"the arm moved {distance:.3f} m and {angle:.2f} rad away from the held target, by its controller or because "
            "something moved it, so that target is given up"
        )
    return ""
