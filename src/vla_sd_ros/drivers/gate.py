# SPDX-License-Identifier: Apache-2.0
"""Which targets an arm by pip is sent: those that begin where it is, and stay near it.

arm_node sends no others. Whoever else publishes on the topic, whatever arm_node kept from before a recovery or a home
motion, and a target that is no number must not move the arm.
"""

import math
from dataclasses import dataclass

import numpy as np

from vla_sd_ros.kinematics.pose import Pose

PAUSE = 0.1  # s without targets, after which the arm rests at the last one
ANEW = 0.5  # s without targets, after which they begin anew, from where the arm is
LONGEST_STEP = 0.05  # s between two targets of whose difference a velocity is made
FIRST_DISTANCE, FIRST_ANGLE = 0.02, 0.1  # m, rad: of the first target from the arm


@dataclass(frozen=True)
class Reach:
    """Farthest that a target may be from the arm: distance [m], angle [rad]."""

    distance: float = 0.15
    angle: float = 0.9


class Gate:
    """Times [s] are of one steady clock."""

    def __init__(self, reach: Reach):
        self._reach = reach
        self._last: tuple[float, Pose] | None = None  # the newest target that was let through
        self._came_at = -math.inf  # the newest target, let through or not
        self.refusal = ""  # why the newest targets are refused; ends with a pause of ANEW

    def admit(self, target: Pose, measured: Pose, stamp: float, now: float) -> np.ndarray | None:
        """The twist (6,) of the target's own motion, or None where it is refused; stamp [s]: for when it is."""
        if now - self._came_at > ANEW:
            self.shut()
        self._came_at = now
        if not self.refusal:
            self.refusal = self._far(target, measured)
        if self.refusal:
            return None
        twist = np.zeros(6)
        if self._last is not None and 0.0 < stamp - self._last[0] <= LONGEST_STEP:
            twist = self._last[1].displacement_to(target) / (stamp - self._last[0])
        self._last = stamp, target
        return twist

    def pausing(self, now: float) -> bool:
        """Whether no target has come for PAUSE; a refusal is forgotten after ANEW."""
        if now - self._came_at > ANEW:
            self.refusal = ""
        return now - self._came_at > PAUSE

    def refuse(self, why: str) -> None:
        """The robot cannot go to the newest target: refuse what comes after it too."""
        self._last, self.refusal = None, why

    def shut(self) -> None:
        """The next target begins anew: the arm has been moved meanwhile, or may have been."""
        self._last, self.refusal = None, ""

    def _far(self, target: Pose, measured: Pose) -> str:
        apart = measured.displacement_to(target)
        distance, angle = float(np.linalg.norm(apart[:3])), float(np.linalg.norm(apart[3:]))
        if self._last is None and (distance > FIRST_DISTANCE or angle > FIRST_ANGLE):
            return (f"the targets begin {distance:.3f} m and {angle:.2f} rad from the arm, so they are refused: a new goal begins "
                    "where the arm is")
        if distance > self._reach.distance or angle > self._reach.angle:
            return (f"a target {distance:.3f} m and {angle:.2f} rad from the arm was refused, and what comes after it: "
                    "target.max_distance and target.max_angle say how far it may be")
        return ""
