# SPDX-License-Identifier: Apache-2.0
"""Whether the arm goes where it is sent.

It does not when it is blocked, in a reflex, or its controller is inactive. Worse, it goes elsewhere when its controller
moves another frame than the one that is commanded (a wrong tip, a wrong base), when a joint's encoder has slipped, or
when it sags under a load. Then a target that is moved towards the measured pose drags the arm along for ever, so no
target ever is: see `advanced`.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from vla_sd_ros.control.codes import Code, Fault
from vla_sd_ros.kinematics.pose import Pose

MOVED_DISTANCE, MOVED_ANGLE = 0.002, 0.02  # m, rad: an arm that moves less stands still

REACTION = 0.5  # s, by which a healthy arm may be late: within it, each pose that was commanded explains where the arm is
MEMORY = 1.0  # s, over which the arm's own motion is judged
SAMPLING = 0.02  # s, between two poses that are kept
EASING = 0.5  # `first` grows to `away` by this times the target's way since the goal began, in units of `away`
LEAD_MARGIN = 1.2  # times the lead: the target stops at the lead, so that an arm farther off has moved there by itself


@dataclass(frozen=True, kw_only=True)
class FollowLimits:
    """Distances of the measured pose from the commanded one [m], [rad], and a time [s].

    Beyond `max` the arm deviates; beyond `still` it must move within `timeout`. No target goes farther ahead than `lead`,
    and for longer than `timeout` the arm must not be farther off. By `away`, and by `first` while a goal's target has not
    moved yet, the arm may move off the commanded way.
    """

    max_distance: float = 0.12
    max_angle: float = 0.8
    still_distance: float = 0.04
    still_angle: float = 0.3
    timeout: float = 1.0
    lead_distance: float = 0.045
    lead_angle: float = 0.5
    away_distance: float = 0.03
    away_angle: float = 0.25
    first_distance: float = 0.008
    first_angle: float = 0.06


class FollowWatch:
    """Compares commanded and measured pose while a goal is running."""

    def __init__(self, commanded: Pose, measured: Pose, now: float):
        """The poses as the goal begins, at a time [s]."""
        self.first = True  # the target has hardly moved since the goal began
        self._commanded: deque[tuple[float, Pose]] = deque()  # of the last REACTION
        self._measured: deque[tuple[float, Pose]] = deque()  # of the last MEMORY
        self._way = np.zeros(2)  # of the target since the goal began [m], [rad]
        self._anchor: tuple[Pose, float] | None = None  # where the arm has stood, and since when
        self._off_since: float | None = None
        self._remember(commanded, measured, now)

    def check(self, commanded: Pose, measured: Pose, now: float, limits: FollowLimits) -> Fault | None:
        """What is wrong at this time [s], or None."""
        self._remember(commanded, measured, now)
        return (
            self._deviates(commanded, measured, limits)
            or self._runs_away(measured, limits)
            or self._is_off(measured, now, limits)
            or self._stands_still(commanded, measured, now, limits)
        )

    def in_hold(self, commanded: Pose, measured: Pose, now: float, limits: FollowLimits) -> Fault | None:
        """The same while the target comes to rest and stays: only whether the arm runs away from it."""
        self._remember(commanded, measured, now)
        return self._runs_away(measured, limits)

    def in_the_way(self, fault: Fault) -> Fault | None:
        """Why no goal may begin after the arm has run away: None where it did so late that another goal may do better."""
        if not self.first:
            return None
        return fault._replace(
            message=f"{fault.message}; it moved as the goal began, so none begins until ~/recover is called or arm_node is activated "
            "again"
        )

    def _remember(self, commanded: Pose, measured: Pose, now: float) -> None:
        if self._commanded:
            self._way += apart(self._commanded[-1][1], commanded)
        # The newest entries of both stand for this very moment; they are kept when the one before is old enough.
        for memory, pose, length in ((self._commanded, commanded, REACTION), (self._measured, measured, MEMORY)):
            if len(memory) > 1 and memory[-1][0] - memory[-2][0] < SAMPLING:
                memory.pop()
            memory.append((now, pose))
            while now - memory[0][0] > length:
                memory.popleft()

    def _deviates(self, commanded: Pose, measured: Pose, limits: FollowLimits) -> Fault | None:
        distance, angle = apart(commanded, measured)
        if distance <= limits.max_distance and angle <= limits.max_angle:
            return None
        return Fault(
            Code.ARM_DEVIATES,
            f"the arm is {distance:.3f} m and {angle:.2f} rad away from where it was sent: "
            "it is blocked, or its controller is too soft or too slow",
        )

    def _runs_away(self, measured: Pose, limits: FollowLimits) -> Fault | None:
        """How far the arm has moved off the way that its targets took, on its own: a target that moves off explains nothing."""
        off = off_way([pose for _, pose in self._measured], [pose for _, pose in self._commanded])
        away, away_angle = off[-1] - off.min(axis=0)
        most = np.array([limits.away_distance, limits.away_angle])
        # The way counts as a whole: a hand that is moved also tilts a little, and one that is turned also strays.
        share = EASING * (self._way / most).max()
        allowed = np.minimum(most, np.array([limits.first_distance, limits.first_angle]) + share * most)
        self.first = bool(allowed[0] < limits.away_distance and allowed[1] < limits.away_angle)
        if away <= allowed[0] and away_angle <= allowed[1]:
            return None
        return Fault(
            Code.ARM_RUNS_AWAY,
            f"the arm moved {away:.3f} m and {away_angle:.2f} rad off the way on which it was sent: see whether its controller "
            "moves the frame tip_link in the frame base_frame, and whether it sags or is pushed",
        )

    def _is_off(self, measured: Pose, now: float, limits: FollowLimits) -> Fault | None:
        distance, angle = off_way([measured], [pose for _, pose in self._commanded])[0]
        if distance <= LEAD_MARGIN * limits.lead_distance and angle <= LEAD_MARGIN * limits.lead_angle:
            self._off_since = None
        elif self._off_since is None:
            self._off_since = now
        elif now - self._off_since > limits.timeout:
            return Fault(
                Code.LEAD_OFFSET,
                f"the arm has been {distance:.3f} m and {angle:.2f} rad off its targets for {limits.timeout:.3g} s, wherever they "
                "went: see whether the joint states are those of the arm as it stands, and whether it carries too much",
            )
        return None

    def _stands_still(self, commanded: Pose, measured: Pose, now: float, limits: FollowLimits) -> Fault | None:
        distance, angle = apart(commanded, measured)
        if distance <= limits.still_distance and angle <= limits.still_angle:
            self._anchor = None
            return None
        if self._anchor is not None:
            moved, turned = apart(self._anchor[0], measured)
        if self._anchor is None or moved > MOVED_DISTANCE or turned > MOVED_ANGLE:
            self._anchor = measured, now
        elif now - self._anchor[1] > limits.timeout:
            return Fault(
                Code.ARM_NOT_FOLLOWING,
                f"the arm has not moved for {limits.timeout:.3g} s, though it is sent {distance:.3f} m and {angle:.2f} rad away: "
                "see whether it is blocked or in a reflex, and whether its controller is active",
            )
        return None


def advanced(measured: Pose, start: Pose, end: Pose, distance: float, angle: float) -> Pose:
    """How far on the way from a target to the next the target may go, with the arm at `measured`.

    No farther from the arm than a distance [m] and an angle [rad], or than it is at the start: the target waits for the
    arm, but never moves towards it of itself. Distances from the arm are convex along the way, so the share that a linear
    one would allow is safe.
    """
    step = start.displacement_to(end)
    before, after = apart(measured, start), apart(measured, end)
    shares = [
        1.0 if then <= max(most, now) else max(most - now, 0.0) / (then - now)
        for most, now, then in zip((distance, angle), before, after)
    ]
    return end if min(shares) == 1.0 else start.moved(np.concatenate([shares[0] * step[:3], shares[1] * step[3:]]))


def apart(one: Pose, other: Pose) -> tuple[float, float]:
    """Distance [m] and angle [rad] between two poses."""
    displacement = one.displacement_to(other)
    return float(np.linalg.norm(displacement[:3])), float(np.linalg.norm(displacement[3:]))


def off_way(poses: list[Pose], way: list[Pose]) -> np.ndarray:
    """Distance [m] and angle [rad] of each pose from the nearest pose of a way, (n, 2); each of them by itself."""
    positions, along = (np.array([pose.position for pose in these]) for these in (poses, way))
    distances = np.linalg.norm(positions[:, None] - along[None], axis=2).min(axis=1)
    rotations, turns = (np.array([pose.rotation for pose in these]).reshape(-1, 9) for these in (poses, way))
    cosines = (rotations @ turns.T - 1.0) / 2.0  # of the angle between two rotations: trace(R Q^T) = 1 + 2 cos
    return np.column_stack([distances, np.arccos(cosines.max(axis=1).clip(-1.0, 1.0))])
