# SPDX-License-Identifier: Apache-2.0
"""Following a moving reference within limits of velocity, acceleration and jerk.

At every tick ruckig plans the time-optimal motion from the present state to REST at the present reference, and the
first piece of that plan is executed, if the arm can brake after it without leaving a limit. While the reference moves,
the plans never get to their braking part, so the motion does not stop and go between commands; it stays behind the
reference by just the distance it needs to stop, v^2 / 2a, and when the reference stops, it comes to rest there without
overshoot.

Ruckig: L. Berscheid, T. Kroeger, "Jerk-limited Real-time Trajectory Generation with Arbitrary Target States", 2021.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from ruckig import ControlInterface, InputParameter, Result, Ruckig, Synchronization, Trajectory

from vla_sd_ros.control.codes import Code, Fault
from vla_sd_ros.control.reach import JointLimits, Reach
from vla_sd_ros.kinematics.pose import Pose

AXES = 6  # x, y, z, and the rotation vector, in base axes
TOLERANCE = 1e-9
# The braking motion is examined at points: largest time, distance and angle between two of them, and how many at most.
POINT_TIME, POINT_DISTANCE, POINT_ANGLE, MOST_POINTS = 0.04, 0.02, 0.08, 24  # s, m, rad
PATIENCE = 0.2  # s, for which no motion can be computed, before it is given up
EARLY = 0.25, 0.5, 0.75  # shares of the time to the first point, at which the joints' speeds are examined too


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
        return replace(self, linear_velocity=share * self.linear_velocity, angular_velocity=share * self.angular_velocity)

    def stopping_time(self) -> float:
        """A bound on the time from any state to rest [s]: v / a, plus taking the acceleration there and back."""
        times = [v / a + 2.0 * a / j for v, a, j in zip(*map(self.axes, ("velocity", "acceleration", "jerk")))]
        return max(times)


class Tracker:
    """The state of the commanded motion. Starts at rest at a pose; `pose`, `velocity` (6,), `acceleration` (6,).

    A motion is adopted for one step only if the step and the braking after it lie inside the workspace box and, where
    there is a `reach`, within the limits of the joints. Otherwise the arm brakes on the way that passed this test before.
    So at every time a way to rest is known that leaves no limit.
    """

    def __init__(self, pose: Pose, reach: Reach | None = None):
        self.pose = pose
        self.velocity = np.zeros(AXES)
        self.acceleration = np.zeros(AXES)
        self.reach = reach
        # The way to rest: displacements from its anchor over its time.
        self._anchor = pose
        self._way: Trajectory | None = None
        self._time = 0.0
        # Why the last motions could not be computed, and for how long that has been so.
        self._error, self._failing = "", 0.0

    @property
    def at_rest(self) -> bool:
        """Whether nothing moves any more."""
        return bool(np.abs(self.velocity).max() < 1e-6 and np.abs(self.acceleration).max() < 1e-3)

    @property
    def rest_pose(self) -> Pose:
        """Where the arm comes to rest if it brakes now."""
        return self.pose if self._way is None else self._anchor.moved(np.array(self._way.at_time(self._way.duration)[0]))

    @property
    def refusal(self) -> Fault | None:
        """Why the joints do not allow what the reference asks for, even slowly; or why no motion can be computed."""
        if self._failing > PATIENCE:
            return Fault(Code.TRAJECTORY_FAILED, f"the motion to the target cannot be computed, so the arm holds: {self._error}")
        return self.reach.refusal if self.reach else None

    def step(
        self,
        reference: Pose | None,
        dt: float,
        limits: Limits,
        low: np.ndarray,
        high: np.ndarray,
        joints: JointLimits = JointLimits(),
        measured: np.ndarray | None = None,
    ) -> Pose:
        """Follow the reference for dt [s], or brake where there is none; returns the new pose.

        Within limits, the box low .. high (3,) [m] (or no farther outside than the arm already is), and the limits of the
        joints. measured: joint positions (n,) of the arm [rad], which those of the command stay near.
        """
        if dt <= 0.0:
            return self.pose
        if reference is not None:
            displacement = self.pose.displacement_to(reference)
            if self.at_rest and np.abs(displacement).max() < TOLERANCE:
                return self.pose
            if self._adopts_surely(displacement, dt, limits, low, high, joints, measured):
                return self.pose
        else:
            self._failing = 0.0
        self._brake(dt)
        return self.pose

    def _adopts_surely(self, displacement, dt, limits, low, high, joints, measured) -> bool:
        """`_adopts`, where no error of the mathematics keeps the arm from braking."""
        try:
            adopted = self._adopts(displacement, dt, limits, low, high, joints, measured)
        except Exception as error:  # of ruckig, which derives its own from no other; of linear algebra
            self._error = f"{type(error).__name__}: {error}".splitlines()[0]
            self._failing += dt
            return False
        self._failing = 0.0
        return adopted

    def _adopts(self, displacement, dt, limits, low, high, joints, measured) -> bool:
        share = 1.0
        if self.reach:
            share = self.reach.share(displacement, limits.linear_velocity, limits.angular_velocity, joints)
        plan = planned(self.velocity, self.acceleration, limits.slowed(share), displacement)
        moved, velocity, acceleration = (np.array(values) for values in plan.at_time(min(dt, plan.duration)))
        way = planned(velocity, acceleration, limits, None)
        # While it brakes an axis is never faster than |v| + |a| T: extrema, which take longer, are needed near a wall only.
        farthest = ((np.abs(velocity) + np.abs(acceleration) * way.duration) * way.duration)[:3]
        pose = self.pose.moved(moved)
        here, there = self.pose.position, pose.position
        if not inside(there, there, low, high, here):
            return False
        if not inside(there - farthest, there + farthest, low, high, there):
            lowest, highest = extrema(way, 3)
            if not inside(there + lowest, there + highest, low, high, there):
                return False
        # Until the acceleration is taken back, an axis gets faster still.
        faster = acceleration * np.abs(acceleration) / (2.0 * np.array(limits.axes("jerk")))
        peak = np.where(velocity * acceleration > 0.0, velocity + faster, velocity)
        if self.reach:
            times, on_the_way = points(pose, way, self.reach.crooked)
            early = np.column_stack([peak, *(way.at_time(share * times[0])[1] for share in EARLY)])
            if not self.reach.admits(pose, early, on_the_way, dt, joints, measured):
                return False
        self.pose, self.velocity, self.acceleration = pose, velocity, acceleration
        self._anchor, self._way, self._time = pose, way, 0.0
        return True

    def _brake(self, dt: float) -> None:
        if self._way is None or self.at_rest:
            if self.reach:
                self.reach.rest()
            return
        self._time += dt
        displacement, velocity, acceleration = self._way.at_time(min(self._time, self._way.duration))
        self.pose = self._anchor.moved(np.array(displacement))
        self.velocity, self.acceleration = np.array(velocity), np.array(acceleration)
        if self.reach:
            self.reach.follow(self.pose, dt)


def inside(lowest: np.ndarray, highest: np.ndarray, low: np.ndarray, high: np.ndarray, here: np.ndarray) -> bool:
    """Whether positions lowest .. highest (3,) lie in the box low .. high, or no farther outside than `here`."""
    return bool((lowest >= np.minimum(low, here) - TOLERANCE).all() and (highest <= np.maximum(high, here) + TOLERANCE).all())


def planned(velocity: np.ndarray, acceleration: np.ndarray, limits: Limits, displacement: np.ndarray | None) -> Trajectory:
    """The time-optimal plan to rest after a displacement (6,), or to rest anywhere. Raises when ruckig finds none: its own
    RuckigError, which is no RuntimeError, ValueError for a result that its enumeration lacks, or ArithmeticError."""
    problem = InputParameter(AXES)
    problem.synchronization = Synchronization.No  # each axis as fast as it can
    problem.current_position = [0.0] * AXES
    problem.current_velocity = velocity.tolist()
    problem.current_acceleration = acceleration.tolist()
    problem.max_velocity = limits.axes("velocity")
    problem.max_acceleration = limits.axes("acceleration")
    problem.max_jerk = limits.axes("jerk")
    if displacement is None:
        problem.control_interface = ControlInterface.Velocity
    else:
        problem.target_position = displacement.tolist()
    plan = Trajectory(AXES)
    result = Ruckig(AXES).calculate(problem, plan)
    if result not in (Result.Working, Result.Finished):
        raise ArithmeticError(f"ruckig finds no trajectory ({result})")
    return plan


def points(pose: Pose, way: Trajectory, dense: bool) -> tuple[list[float], list[tuple[Pose, np.ndarray]]]:
    """Times, and poses and twists (6,), on a way from a pose to rest, so dense that its postures are found one by one.

    Four times as dense near a singular posture, where each turn of the way asks for other speeds of the joints.
    """
    length = np.abs(way.at_time(way.duration)[0])
    count = max(way.duration / POINT_TIME, length[:3].max() / POINT_DISTANCE, length[3:].max() / POINT_ANGLE)
    count = 4.0 * max(count, 1.0) if dense else count
    times = np.linspace(0.0, way.duration, 1 + min(max(math.ceil(count), 1), MOST_POINTS))[1:].tolist()
    return times, [
        (pose.moved(np.array(displacement)), np.array(velocity)) for displacement, velocity, _ in map(way.at_time, times)
    ]


def extrema(plan: Trajectory, axes: int = AXES) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest displacement (axes,) of the first axes during a plan.

    Computed here because `Trajectory.position_extrema` of ruckig 0.19 overlooks turning points within a phase of
    constant acceleration. Each phase has constant jerk: x(t) = x + v t + a t^2 / 2 + j t^3 / 6; it turns where
    v + a t + j t^2 / 2 = 0.
    """
    profiles = plan.profiles[0][:axes]
    t, j, a, v, x = (
        np.array([getattr(profile.brake, name) + getattr(profile, name)[:7] for profile in profiles]) for name in "tjavp"
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(a * a - 2.0 * j * v)
        turns = np.stack([2.0 * v / (-a - root), 2.0 * v / (-a + root), t])
    turns = np.clip(np.nan_to_num(turns, nan=0.0, posinf=0.0, neginf=0.0), 0.0, t)
    reached = x + turns * (v + turns * (a / 2.0 + turns * j / 6.0))
    reached = reached.transpose(1, 0, 2).reshape(len(profiles), -1)
    # The first phases begin at the start of the plan, at zero displacement.
    return np.minimum(reached.min(axis=1), 0.0), np.maximum(reached.max(axis=1), 0.0)
