# SPDX-License-Identifier: Apache-2.0
"""Following a moving reference within limits of velocity, acceleration and jerk.

At every tick ruckig plans the time-optimal motion from the present state to REST at the present reference, and the
first piece of that plan is executed. While the reference moves, the plans never get to their braking part, so the
motion does not stop and go between commands; it stays behind the reference by just the distance it needs to stop,
v^2 / 2a, and when the reference stops, it comes to rest there without overshoot.

Ruckig: L. Berscheid, T. Kroeger, "Jerk-limited Real-time Trajectory Generation with Arbitrary Target States", 2021.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from ruckig import ControlInterface, InputParameter, Result, Ruckig, Synchronization, Trajectory

from vla_sd_ros.control.pose import Pose

AXES = 6  # x, y, z, and the rotation vector, in base axes
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Limits:
    """Greatest speed, acceleration and jerk of the end effector: of translation [m] and of rotation [rad].

    They bound the length of each vector. The axes are limited one by one, each to 1 / sqrt(3) of the bound, so that
    no direction exceeds it; along a single axis the arm goes at most that fast.
    """

    linear_velocity: float
    linear_acceleration: float
    linear_jerk: float
    angular_velocity: float
    angular_acceleration: float
    angular_jerk: float

    def axes(self, of: str) -> list[float]:
        """The limit of each of the six axes; `of` is velocity, acceleration or jerk."""
        linear, angular = getattr(self, f"linear_{of}"), getattr(self, f"angular_{of}")
        return [linear / math.sqrt(3.0)] * 3 + [angular / math.sqrt(3.0)] * 3

    def slowed(self, share: float) -> "Limits":
        """These limits with a share of the velocities; acceleration and jerk stay, so that it still stops as soon."""
        return replace(self, linear_velocity=share * self.linear_velocity,
                       angular_velocity=share * self.angular_velocity)

    def stopping_time(self) -> float:
        """A bound on the time from any state to rest [s]: v / a, plus taking the acceleration there and back."""
        times = [v / a + 2.0 * a / j for v, a, j in zip(*map(self.axes, ("velocity", "acceleration", "jerk")))]
        return max(times)


class Tracker:
    """The state of the commanded motion. Starts at rest at a pose; `pose`, `velocity` (6,), `acceleration` (6,)."""

    def __init__(self, pose: Pose):
        self.pose = pose
        self.velocity = np.zeros(AXES)
        self.acceleration = np.zeros(AXES)
        # The plan being executed: displacements from its anchor over its time.
        self._anchor = pose
        self._plan: Trajectory | None = None
        self._time = 0.0

    @property
    def at_rest(self) -> bool:
        """Whether nothing moves any more."""
        return bool(np.abs(self.velocity).max() < 1e-6 and np.abs(self.acceleration).max() < 1e-3)

    def step(self, reference: Pose, dt: float, limits: Limits, low: np.ndarray, high: np.ndarray) -> Pose:
        """Follow the reference for dt [s] within the limits and the box low .. high (3,) [m]; returns the new pose.

        A new plan is adopted only if all of it, up to its end at rest, lies inside the box (or no farther outside than
        the arm already is). Otherwise the previous plan, which passed this test, goes on: so the box is never left.
        """
        displacement = self.pose.displacement_to(reference)
        if self.at_rest and np.abs(displacement).max() < TOLERANCE:
            return self.pose
        plan = self._planned(limits, displacement)
        if plan is not None and self._inside(plan, low, high):
            self._anchor, self._plan, self._time = self.pose, plan, 0.0
        if self._plan is None:
            return self.pose
        self._time += dt
        displacement, velocity, acceleration = self._plan.at_time(min(self._time, self._plan.duration))
        self.pose = self._anchor.moved(np.array(displacement))
        self.velocity, self.acceleration = np.array(velocity), np.array(acceleration)
        return self.pose

    def stopping_pose(self, limits: Limits) -> Pose:
        """Where the arm comes to rest if it brakes now, as fast as the limits allow."""
        plan = self._planned(limits, None)
        if plan is None:
            return self.pose
        return self.pose.moved(np.array(plan.at_time(plan.duration)[0]))

    def _planned(self, limits: Limits, displacement: np.ndarray | None) -> Trajectory | None:
        """The time-optimal plan to rest after a displacement, or to rest anywhere; None when ruckig finds none."""
        problem = InputParameter(AXES)
        problem.synchronization = Synchronization.No  # each axis as fast as it can
        problem.current_position = [0.0] * AXES
        problem.current_velocity = self.velocity.tolist()
        problem.current_acceleration = self.acceleration.tolist()
        problem.max_velocity = limits.axes("velocity")
        problem.max_acceleration = limits.axes("acceleration")
        problem.max_jerk = limits.axes("jerk")
        if displacement is None:
            problem.control_interface = ControlInterface.Velocity
        else:
            problem.target_position = displacement.tolist()
        plan = Trajectory(AXES)
        try:
            result = Ruckig(AXES).calculate(problem, plan)
        except RuntimeError:
            return None
        return plan if result in (Result.Working, Result.Finished) else None

    def _inside(self, plan: Trajectory, low: np.ndarray, high: np.ndarray) -> bool:
        here = self.pose.position
        lowest, highest = extrema(plan)
        lowest, highest = here + lowest[:3], here + highest[:3]
        return bool(np.all(lowest >= np.minimum(low, here) - TOLERANCE)
                    and np.all(highest <= np.maximum(high, here) + TOLERANCE))


def extrema(plan: Trajectory) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest displacement (n,) of each axis during a plan.

    Computed here because `Trajectory.position_extrema` of ruckig 0.19 overlooks turning points within a phase of
    constant acceleration. Each phase has constant jerk: x(t) = x + v t + a t^2 / 2 + j t^3 / 6; it turns where
    v + a t + j t^2 / 2 = 0.
    """
    profiles = plan.profiles[0]
    t, j, a, v, x = (np.array([getattr(profile.brake, name) + getattr(profile, name)[:7] for profile in profiles])
                     for name in "tjavp")
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(a * a - 2.0 * j * v)
        turns = np.stack([2.0 * v / (-a - root), 2.0 * v / (-a + root), t])
    turns = np.clip(np.nan_to_num(turns, nan=0.0, posinf=0.0, neginf=0.0), 0.0, t)
    reached = x + turns * (v + turns * (a / 2.0 + turns * j / 6.0))
    reached = reached.transpose(1, 0, 2).reshape(len(profiles), -1)
    # The first phases begin at the start of the plan, at zero displacement.
    return np.minimum(reached.min(axis=1), 0.0), np.maximum(reached.max(axis=1), 0.0)
