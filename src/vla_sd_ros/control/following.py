# SPDX-License-Identifier: Apache-2.0
"""Whether the arm goes where it is sent. It does not when it is blocked, in a reflex, or its controller is inactive."""

from dataclasses import dataclass

import numpy as np

from vla_sd_ros.control.codes import Code, Fault
from vla_sd_ros.control.pose import Pose

MOVED_DISTANCE, MOVED_ANGLE = 0.002, 0.02  # m, rad: an arm that moves less stands still


@dataclass(frozen=True)
class FollowLimits:
    """Distances of the measured pose from the commanded one [m], [rad], and a time [s].

    Beyond `max` the arm deviates; beyond `still` it must move within `timeout`. No target goes farther ahead than `lead`.
    """

    max_distance: float = 0.12
    max_angle: float = 0.8
    still_distance: float = 0.04
    still_angle: float = 0.3
    timeout: float = 1.0
    lead_distance: float = 0.06
    lead_angle: float = 0.5


class FollowWatch:
    """Compares commanded and measured pose while a goal is running."""

    def __init__(self):
        self._anchor: tuple[Pose, float] | None = None  # where the arm has stood, and since when

    def check(self, commanded: Pose, measured: Pose, now: float, limits: FollowLimits) -> Fault | None:
        """What is wrong at this time [s], or None."""
        distance, angle = apart(commanded, measured)
        if distance > limits.max_distance or angle > limits.max_angle:
            return Fault(Code.ARM_DEVIATES, f"the arm is {distance:.3f} m and {angle:.2f} rad away from where it was sent: "
                                            "it is blocked, or its controller is too soft or too slow")
        if distance <= limits.still_distance and angle <= limits.still_angle:
            self._anchor = None
            return None
        if self._anchor is not None:
            moved, turned = apart(self._anchor[0], measured)
        if self._anchor is None or moved > MOVED_DISTANCE or turned > MOVED_ANGLE:
            self._anchor = measured, now
        elif now - self._anchor[1] > limits.timeout:
            return Fault(Code.ARM_NOT_FOLLOWING, f"the arm has not moved for {limits.timeout:.3g} s, though it is sent "
                         f"{distance:.3f} m and {angle:.2f} rad away: see whether it is blocked or in a reflex, and whether "
                         "its controller is active")
        return None


def apart(one: Pose, other: Pose) -> tuple[float, float]:
    """Distance [m] and angle [rad] between two poses."""
    displacement = one.displacement_to(other)
    return float(np.linalg.norm(displacement[:3])), float(np.linalg.norm(displacement[3:]))
