# SPDX-License-Identifier: Apache-2.0
"""What the joints allow of the commanded motion: their positions and speeds, and the distance from singular postures.

`Reach` carries the joint positions along with the commanded pose, from the measured ones on: each is the damped solution
next to the one before (T. Sugihara, "Solvability-Unconcerned Inverse Kinematics by the Levenberg-Marquardt Method",
2011). It admits a motion only if the motion AND the braking after it stay within the limits, so that whatever comes, an
admitted way to rest is at hold.

What is limited is one vector, the room: distance of each joint from its lower limit, from its upper limit, and the
smallest singular value of the Jacobian. None may go below its floor. Where one is below already (the arm starts there, or
a margin was raised) it may grow or stay, but not shrink.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from scipy.linalg.lapack import dposv, dsyev

from vla_sd_ros.control.codes import Code, Fault
from vla_sd_ros.kinematics.pose import Pose

IDENTITY = np.eye(6)
FASTEST = 10.0  # rad/s: of a joint whose limit robot_description does not give
REACHED = 1e-6  # m and rad: the error at which a posture has the pose
ITERATIONS = 6  # until REACHED; from one tick to the next it takes one or two
DAMPING = 1e-9  # added to half the squared error
LARGEST_CHANGE = 0.5  # rad: of any joint in one iteration
SLOWEST = 0.1  # share of the speed that is left at a limit, so that the arm gets there, and away again
# The braking motion is examined at a few points in time. These reserves keep what lies between the points within the limits too.
SLACK = 0.005, 0.001  # rad, and of the singular value: how far a room below its floor may fall behind the best it has reached
RESERVE = 2.0  # times SLACK: distance that a room keeps from its floor
OUTWARD = 0.03  # rad/s: a joint below its floor may not move on away from it faster than this at any of the points
SPEED_RESERVE = 0.06  # share of each joint's speed limit that is not used
# The elbow of a redundant arm may drift while its hand does as told. Where it is farther than DRIFT from the commanded posture,
# the commanded posture moves towards it at LEAN.
DRIFT, LEAN = 0.1, 0.2  # rad, rad/s: lengths of vectors of joint positions
EASING, RECOVERY = 0.5, 1.15  # factors of the speed after a motion that is refused, and after one that is admitted
CROOKED = 0.06  # singular value below which one step of the solver is not enough from one examined point to the next
LOOK_AHEAD = 0.02  # s: to see whether a motion leads towards a singular posture
LEAST_EASE = 0.05  # a motion that is refused even at this share of the speed is given up


UNREACHABLE = Fault(
    Code.SINGULARITY,
    "no joint positions lead on to the target: it is out of the arm's reach, or the arm is in a singular posture, so the arm holds",
)


class Kinematics(Protocol):
    """What is needed of an arm; kinematics/arm.py has it."""

    joint_names: Sequence[str]
    position_limits: tuple[np.ndarray, np.ndarray]
    velocity_limits: np.ndarray

    def forward_and_jacobian(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Position (3,), rotation (3, 3) and Jacobian (6, n) of the tip, base axes, at the joint positions q (n,)."""


@dataclass(frozen=True)
class JointLimits:
    """Distance from the position limits [rad], share of the speed limits, and smallest singular values of the Jacobian.

    Within `slow_zone` [rad] of a limit less the margin a joint slows down. The singular value is that of twists in m/s and
    rad/s over joint speeds in rad/s: at 0.05, 0.05 m/s takes up to 1 rad/s.
    """

    position_margin: float = 0.05
    slow_zone: float = 0.15
    velocity_share: float = 0.9
    singularity_slow_below: float = 0.06
    singularity_hold_below: float = 0.02


class Posture:
    """Joint positions (n,), and what follows from them."""

    def __init__(self, kinematics: Kinematics, joints: np.ndarray):
        self._kinematics, self.joints = kinematics, joints
        position, rotation, self.jacobian = kinematics.forward_and_jacobian(joints)
        self.pose = Pose(position, rotation)
        self._square = self.jacobian @ self.jacobian.T

    @cached_property
    def smallest(self) -> float:
        """The smallest singular value of the Jacobian."""
        return math.sqrt(max(dsyev(self._square, compute_v=0)[0][0], 0.0))

    def changes(self, twists: np.ndarray, damping: float = DAMPING) -> np.ndarray:
        """The least changes of the joints (n, k) for displacements or twists (6, k); damped [squared singular value]."""
        return self.jacobian.T @ dposv(self._square + damping * IDENTITY, twists)[1]

    def towards(self, pose: Pose) -> "Posture | None":
        """A posture nearer to a pose; None where this one has it."""
        error = self.pose.displacement_to(pose)
        square = error @ error
        if square < REACHED**2:
            return None
        change = self.changes(error, 0.5 * square + DAMPING)
        largest = np.abs(change).max()
        return Posture(self._kinematics, self.joints + change * min(1.0, LARGEST_CHANGE / largest))


def solved(pose: Pose, near: Posture) -> Posture | None:
    """The posture of a pose that continues one near by, or None."""
    for _ in range(ITERATIONS):
        nearer = near.towards(pose)
        if nearer is None:
            return near
        near = nearer
    return None


class Reach:
    """The commanded joint positions: `joints` (n,), the joints of the commanded pose. `refusal`: why it was given up."""

    def __init__(self, kinematics: Kinematics, joints: np.ndarray):
        self._kinematics = kinematics
        self._lower, self._upper = kinematics.position_limits
        self._fastest = np.minimum(kinematics.velocity_limits, FASTEST)
        self._posture = Posture(kinematics, np.array(joints, dtype=float))
        self._slack = np.array([SLACK[0]] * (2 * len(joints)) + [SLACK[1]])
        self._kept = self._room(self._posture) - self._slack
        self._speeds = np.zeros(len(joints))
        self._ease = 1.0
        self.refusal: Fault | None = None

    @property
    def joints(self) -> np.ndarray:
        """Of the commanded pose, (n,) [rad]."""
        return self._posture.joints

    @property
    def crooked(self) -> bool:
        """Whether the arm is near a singular posture."""
        return self._posture.smallest < CROOKED

    def share(self, displacement: np.ndarray, linear: float, angular: float, limits: JointLimits) -> float:
        """The share of the speeds linear [m/s] and angular [rad/s] at which the arm may set out on a displacement (6,)."""
        here, self.refusal = self._posture, None
        lengths = math.hypot(*displacement[:3]), math.hypot(*displacement[3:])
        time = max(lengths[0] / linear, lengths[1] / angular, 1e-9)  # that the displacement takes at full speed
        needed = here.changes(displacement / time)
        left = np.where(needed < 0.0, here.joints - self._lower, self._upper - here.joints) - limits.position_margin
        allowed = self._fastest * limits.velocity_share * (left / limits.slow_zone).clip(SLOWEST, 1.0)
        joints = (allowed / np.maximum(np.abs(needed), 1e-9)).min()
        return self._ease * min(1.0, self._clear(needed, limits), (1.0 - 2.0 * SPEED_RESERVE) * joints)

    def admits(
        self,
        pose: Pose,
        early: np.ndarray,
        way: list[tuple[Pose, np.ndarray]],
        dt: float,
        limits: JointLimits,
        measured: np.ndarray | None,
    ) -> bool:
        """Whether the arm may be at a pose in dt [s], and then come to rest on its way: poses, twists (6,).

        early (6, k): twists of the way until its first pose, where it is fastest.

        If so, `joints` are those of the pose from here on. measured (n,): where the arm's joints are now.
        """
        here = self._posture
        moved = solved(pose, self._leaning(measured, dt))
        fault: Fault | None = UNREACHABLE
        if moved is not None:
            speeds = (moved.joints - here.joints) / dt
            hasty, fault = self._examined(moved, speeds, early, way, limits)
            if not (hasty or fault):
                self._move(moved, speeds)
                self._ease, self.refusal = min(1.0, RECOVERY * self._ease), None
                return True
        self.refusal = fault if self._ease <= LEAST_EASE else None
        self._ease = max(LEAST_EASE, EASING * self._ease)
        return False

    def follow(self, pose: Pose, dt: float) -> None:
        """Go on to a pose, in dt [s], on the way to rest that was admitted."""
        moved = solved(pose, self._posture)
        if moved is None:
            return
        self._move(moved, (moved.joints - self.joints) / dt)

    def rest(self) -> None:
        """Nothing moves any more."""
        self._speeds = np.zeros_like(self._speeds)

    def _examined(
        self, posture: Posture, speeds: np.ndarray, early: np.ndarray, way: list[tuple[Pose, np.ndarray]], limits: JointLimits
    ) -> tuple[bool, Fault | None]:
        """Whether a joint is too fast in a posture or while the arm brakes from there, and the fault of what leaves its limits."""
        rates, rooms = [speeds, *posture.changes(early).T], [self._room(posture)]
        for index, (pose, twist) in enumerate(way):
            # One step is near enough, but not near a singular posture.
            onward = solved(pose, posture) if posture.smallest < CROOKED else posture.towards(pose) or posture
            if onward is None:
                return False, UNREACHABLE
            posture = onward
            rates.append(posture.changes(twist))
            if index == 0:  # what is early lies between the two first postures
                rates += [*posture.changes(early).T]
            rooms.append(self._room(posture))
        allowed = np.maximum((1.0 - SPEED_RESERVE) * limits.velocity_share * self._fastest, np.abs(self._speeds))
        lacking = np.minimum(self._floors(limits) + RESERVE * self._slack, self._kept + 0.75 * self._slack) - rooms
        hasty = bool((np.abs(rates) > allowed).any())
        short = lacking.max(axis=0) > 0.0
        short[:-1] |= self._outward(np.array(rates), limits)
        return hasty, self._fault(int((lacking.max(axis=0) + short).argmax()), limits) if short.any() else None

    def _outward(self, rates: np.ndarray, limits: JointLimits) -> np.ndarray:
        """Which joints are below their floor and move on away from it, at one of the rates (k, n): (2 n,), lower and upper."""
        below = (self._room(self._posture) < self._floors(limits))[:-1]
        return below & np.concatenate([(rates < -OUTWARD).any(axis=0), (rates > OUTWARD).any(axis=0)])

    def _clear(self, speeds: np.ndarray, limits: JointLimits) -> float:
        """The share of the speed that the distance from singular postures allows, at joint speeds (n,)."""
        slow, hold, smallest = limits.singularity_slow_below, limits.singularity_hold_below, self._posture.smallest
        if smallest >= slow or Posture(self._kinematics, self.joints + LOOK_AHEAD * speeds).smallest > smallest:
            return 1.0
        return max((smallest - hold) / max(slow - hold, 1e-9), SLOWEST)

    def _leaning(self, measured: np.ndarray | None, dt: float) -> Posture:
        """The commanded posture, its elbow nearer to where the measured joints (n,) have it, if that is known and far."""
        if measured is None or len(measured) <= 6 or np.linalg.norm(measured - self.joints) <= DRIFT:
            return self._posture
        apart = measured - self.joints
        apart = apart - self._posture.changes(self._posture.jacobian @ apart)  # what leaves the pose as it is
        size = float(np.linalg.norm(apart))
        if size <= DRIFT:
            return self._posture
        return Posture(self._kinematics, self.joints + apart * (min(size - DRIFT, LEAN * dt) / size))

    def _room(self, posture: Posture) -> np.ndarray:
        return np.concatenate([posture.joints - self._lower, self._upper - posture.joints, [posture.smallest]])

    def _floors(self, limits: JointLimits) -> np.ndarray:
        margin = limits.position_margin
        return np.concatenate([np.full(2 * len(self._lower), margin), [limits.singularity_hold_below]])

    def _move(self, posture: Posture, speeds: np.ndarray) -> None:
        """Take over a posture. A room below its floor may from here on fall back by its slack, no further."""
        self._posture, self._speeds = posture, speeds
        room = self._room(posture)
        self._kept = np.clip(self._kept, room - self._slack, room)

    def _fault(self, index: int, limits: JointLimits) -> Fault:
        """The sentence for a room (index as in _room) that would go below its floor."""
        joint, upper = index % len(self._lower), index >= len(self._lower)
        if index == 2 * len(self._lower):
            return Fault(
                Code.SINGULARITY,
                "the target leads to a singular posture, nearer than singularity.hold_below "
                f"({limits.singularity_hold_below:.3g}), so the arm holds",
            )
        limit = (self._upper if upper else self._lower)[joint]
        return Fault(
            Code.JOINT_LIMIT,
            f"the target would take joint '{self._kinematics.joint_names[joint]}' within {limits.position_margin:.3g} rad of its "
            f"limit, {limit:.2f}, so the arm holds",
        )
