# SPDX-License-Identifier: Apache-2.0
"""Where the target goes: from command to command, and on the way between two of them."""

from dataclasses import dataclass

import numpy as np

from vla_sd_ros.control.clipping import clip_position, clip_step
from vla_sd_ros.control.command import Command
from vla_sd_ros.control.config import Config
from vla_sd_ros.control.following import advanced, apart
from vla_sd_ros.kinematics.pose import Pose, delta_displacement, interpolate


@dataclass(frozen=True)
class Segment:
    """The reference's way from one target to the next, over a period [s] from a time [s] on."""

    start: Pose
    end: Pose
    begin: float
    period: float

    def at(self, now: float) -> Pose:
        """Where the reference is at a time [s]; at its end when the period is over."""
        share = (now - self.begin) / self.period if self.period > 0.0 else 1.0
        return interpolate(self.start, self.end, min(max(share, 0.0), 1.0)) if share < 1.0 else self.end


class Reference:
    """The way of the target; without one it comes to rest."""

    def __init__(self) -> None:
        self._segment: Segment | None = None
        self._reached: Pose | None = None  # how far on its way the arm has let the reference come

    def stop(self) -> None:
        """There is no way any more."""
        self._segment = self._reached = None

    def end(self, rest: Pose) -> Pose:
        """The newest target, or where it rests."""
        return self._segment.end if self._segment else rest

    def go(self, target: Pose, rest: Pose, now: float, period: float) -> None:
        """To the next target, within a period [s] from `now` [s] on; from where it is, or where it rests."""
        start = self._segment.at(now) if self._segment else rest
        self._segment = Segment(start, target, now, period)
        self._reached = self._reached or start

    def at(self, now: float, measured: Pose, config: Config) -> Pose | None:
        """Where the target goes at this time, not too far ahead of the arm at `measured`; None: to rest."""
        if self._segment is None or self._reached is None:
            return None
        wanted, follow = self._segment.at(now), config.follow
        self._reached = (
            wanted if config.dry_run else advanced(measured, self._reached, wanted, follow.lead_distance, follow.lead_angle)
        )
        return self._reached


def beginning(held: Pose, measured: Pose, config: Config) -> Pose:
    """Where a goal begins: at the target that is held, where the arm is about there, else where the arm is.

    An arm that stands off its target by some millimetres (a load, a tip that is not quite the controller's) would move on by as
    much with each goal that began where it is measured.
    """
    distance, angle = apart(held, measured)
    there = distance <= config.follow.away_distance and angle <= config.follow.away_angle
    return held if there and not config.dry_run else measured


def next_target(previous: Pose, command: Command, measured: Pose, here: np.ndarray, config: Config) -> tuple[Pose, bool]:
    """The new target, and whether it is less than the command asked for.

    That is the command's delta, clipped, composed onto the previous target, clipped into the box. measured: where the arm is;
    here (3,) [m]: where its target is, which may stay outside the box if it is.
    """
    wanted = config.action_scale * delta_displacement(command.translation, command.rotation)
    # No step is longer than the arm can go in its period, or the target would run away from the arm.
    velocity = config.limits.axes("velocity")
    step = clip_step(
        wanted, min(config.max_translation, velocity[0] * command.period), min(config.max_rotation, velocity[-1] * command.period)
    )
    target = previous.moved(step)
    # Against what it presses on the arm does not go on, so its targets must not either; but a moving arm is behind
    # by the whole of the step before.
    held = (
        target
        if config.dry_run
        else advanced(
            measured,
            previous,
            target,
            config.follow.lead_distance + float(np.linalg.norm(step[:3])),
            config.follow.lead_angle + float(np.linalg.norm(step[3:])),
        )
    )
    position = clip_position(held.position, here, config.workspace_low, config.workspace_high)
    whole = np.array_equal(step, wanted) and held is target and np.array_equal(position, target.position)
    return Pose(position, held.rotation), not whole
