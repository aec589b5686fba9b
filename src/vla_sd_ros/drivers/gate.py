# SPDX-License-Identifier: Apache-2.0
"""Which targets an arm by pip is sent: those that begin where it is, and stay near it.

arm_node sends no others. Whoever else publishes on the topic, whatever arm_node kept from before a recovery or a home
motion, and a target that is no number must not move the arm.
"""

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from vla_sd_ros.kinematics.pose import Pose

PAUSE = 0.1  # s without targets, after which the arm rests at the last one
ANEW = 0.5  # s without targets, after which they begin anew, from where the arm is
STANDING = 0.03  # s without targets, after which they move no more: one and a half periods of the slowest arm_node
SHORTEST_STEP, LONGEST_STEP = 0.004, 0.05  # s between two targets of whose difference a velocity is made
FASTEST = 2.0, 4.0  # m/s, rad/s: to which the limits of arm_node may be set; what goes farther between two targets leaps
MOST_PAST = 8  # targets within SHORTEST_STEP that are remembered
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
        self._past: deque[tuple[float, Pose]] = deque(maxlen=MOST_PAST)  # stamps and targets that were let through
        self._came_at = self._admitted_at = -math.inf  # the newest target; the newest that was let through
        self.refusal = ""  # why the newest targets are refused; ends with a pause of ANEW

    def admit(self, target: Pose, measured: Pose, stamp: float, now: float) -> np.ndarray | None:
        """The twist (6,) of the target's own motion, or None where it is refused; stamp [s]: for when it is.

        The twist is that since the newest target which is older by SHORTEST_STEP or more, and never beyond FASTEST, whatever the
        stamps are. It is zero where they tell no velocity: where they do not go on, are close together or far apart, or where
        the target leapt.
        """
        if now - self._came_at > ANEW:
            self.shut()
        self._came_at = now
        if not self.refusal:
            self.refusal = self._far(target, measured)
        if self.refusal:
            return None
        self._admitted_at = now
        return self._twist(target, stamp)

    def standing(self, now: float) -> Pose | None:
        """The newest target, where none was let through for STANDING: the velocity that went with it is over."""
        return self._past[-1][1] if self._past and now - self._admitted_at > STANDING else None

    def pausing(self, now: float) -> bool:
        """Whether the arm is to rest: no target was let through for PAUSE. A refusal is forgotten ANEW after its last target."""
        if now - self._came_at > ANEW:
            self.refusal = ""
        return not self._past or now - self._admitted_at > PAUSE

    def refuse(self, why: str) -> None:
        """The robot cannot go to the newest target: refuse what comes after it too."""
        self._past.clear()
        self.refusal = why

    def shut(self) -> None:
        """The next target begins anew: the arm has been moved meanwhile, or may have been."""
        self.refuse("")

    def _twist(self, target: Pose, stamp: float) -> np.ndarray:
        past, twist = self._past, np.zeros(6)
        if past and stamp <= past[-1][0]:
            past.clear()
        while len(past) > 1 and stamp - past[1][0] >= SHORTEST_STEP:
            past.popleft()
        if past and SHORTEST_STEP <= stamp - past[0][0] <= LONGEST_STEP:
            twist = past[0][1].displacement_to(target) / (stamp - past[0][0])
            if np.linalg.norm(twist[:3]) > FASTEST[0] or np.linalg.norm(twist[3:]) > FASTEST[1]:
                twist = np.zeros(6)
        past.append((stamp, target))
        return twist

    def _far(self, target: Pose, measured: Pose) -> str:
        apart = measured.displacement_to(target)
        distance, angle = float(np.linalg.norm(apart[:3])), float(np.linalg.norm(apart[3:]))
        if not self._past and (distance > FIRST_DISTANCE or angle > FIRST_ANGLE):
            return (
                f"the targets begin {distance:.3f} m and {angle:.2f} rad from the arm, so they are refused: a new goal begins "
                "where the arm is"
            )
        if distance > self._reach.distance or angle > self._reach.angle:
            return (
                f"a target {distance:.3f} m and {angle:.2f} rad from the arm was refused, and what comes after it: "
                "target.max_distance and target.max_angle say how far it may be"
            )
        return ""
