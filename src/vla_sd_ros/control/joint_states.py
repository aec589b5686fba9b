# SPDX-License-Identifier: Apache-2.0
"""Whether joint states are those of this arm, measured one after the other."""

from collections import deque
from collections.abc import Sequence

import numpy as np

from vla_sd_ros.control.codes import Code, Fault

OUTSIDE = 0.1  # rad or m: farther than this beyond its limits no joint of this arm is
JUMP = 0.1  # rad or m: what a joint may seem to move at once, for delays on the way
HASTE = 2.0  # times the velocity limit: for messages that come faster than they were measured
CLOCK_JUMP = 0.5  # s between the time by the stamps and the time that passed here
TRUST = 0.1  # s without a contradiction, after which joint states are believed again
THERE, QUICKEST = 0.01, 50.0  # rad or m, rad/s^2 or m/s^2: no joint goes there and back by more than one, quicker than the other
TURNS, PERIOD = 3, 2.0  # so many times within so many seconds: that is two publishers

FASTEST = 10.0  # rad/s: of a joint whose limit robot_description does not give


def picked(wanted: Sequence[str], names: Sequence[str], positions: Sequence[float]) -> np.ndarray | None:
    """The positions (n,) of the wanted joints in a message with names and positions.

    None where it has none of them: it is from something else that shares the topic, such as a gripper. ValueError, with one
    sentence, where it lacks one, or has one twice.
    """
    here = dict(zip(names, positions))
    if not any(name in here for name in wanted):
        return None
    for name in wanted:
        if name not in here:
            raise ValueError(f"joint_states lacks the position of '{name}'")
        if names.count(name) > 1:
            raise ValueError(f"joint_states names '{name}' {names.count(name)} times in one message")
    return np.array([here[name] for name in wanted])


def late(age: float, timeout: float) -> str:
    """Why joint states that are so old by their stamps [s] do not tell where the arm is; empty where they do."""
    if abs(age) <= timeout:
        return ""
    if age < 0.0:
        return f"they come, but are stamped {-age:.2f} s in the future: see whether the clocks agree"
    return (
        f"they come, but are {age:.2f} s old by their stamps: see whether their publisher falls behind, and whether the "
        "clocks agree"
    )


class JointStateWatch:
    """Compares each joint state with the limits of the arm and with the one before."""

    def __init__(self, names: Sequence[str], lower: np.ndarray, upper: np.ndarray, velocity: np.ndarray):
        self._names, self._lower, self._upper = names, lower, upper
        self._velocity = np.minimum(velocity, FASTEST)
        self._q: np.ndarray | None = None
        self._stamp = self._now = 0.0
        self._doubt: Fault | None = None
        self._trusted_from = 0.0
        self._leap = np.zeros(len(names))  # where a joint leapt in the newest message: -1.0 or 1.0, by its direction
        self._turned: deque[float] = deque(maxlen=TURNS)  # when one leapt back

    def check(self, q: np.ndarray, stamp: float, now: float) -> Fault | None:
        """What is wrong with the joint positions q (n,) stamped `stamp` [s], 0 for no stamp, that came at `now`."""
        if not np.all(np.isfinite(q)):
            return Fault(Code.JOINT_STATES_INVALID, f"the position of joint '{self._names[_first(~np.isfinite(q))]}' is not finite")
        outside = (q < self._lower - OUTSIDE) | (q > self._upper + OUTSIDE)
        if outside.any():
            i = _first(outside)
            return Fault(
                Code.JOINT_STATES_INVALID,
                f"joint '{self._names[i]}' is said to be at {q[i]:.2f}, but its limits are {self._lower[i]:.2f} .. "
                f"{self._upper[i]:.2f}: these are not the joint states of this arm",
            )
        contradiction = self._contradiction(self._q, q, stamp, now) if self._q is not None else None
        by_turns = self._by_turns(q, stamp, now)
        self._q, self._stamp, self._now = q, stamp, now
        if contradiction:
            self._doubt, self._trusted_from = contradiction, now + TRUST
        return self._doubt if now < self._trusted_from else by_turns

    def forget(self) -> None:
        """The next joint states may lie anywhere: the arm was put elsewhere, which only a simulator can do."""
        self._q = None

    def _contradiction(self, before: np.ndarray, q: np.ndarray, stamp: float, now: float) -> Fault | None:
        passed = now - self._now
        if stamp and self._stamp and abs(stamp - self._stamp - passed) > CLOCK_JUMP:
            return Fault(
                Code.CLOCK_JUMP,
                f"the stamps of the joint states went {stamp - self._stamp:.2f} s in {passed:.2f} s: a clock was set, or "
                "something was stopped for a while",
            )
        between = self._between(stamp, now)
        leapt = np.abs(q - before) > JUMP + HASTE * self._velocity * between
        if not leapt.any():
            return None
        i = _first(leapt)
        return Fault(
            Code.JOINT_STATES_INVALID,
            f"joint '{self._names[i]}' jumped from {before[i]:.2f} to {q[i]:.2f} in {between:.3f} s, faster than it can move: "
            "look for a second publisher of joint_states",
        )

    def _by_turns(self, q: np.ndarray, stamp: float, now: float) -> Fault | None:
        """Whether the positions go there and back as no arm does: those of two publishers come by turns, however near they are."""
        if self._q is None:
            self._leap[:] = 0.0
            return None
        way = q - self._q
        leap = np.sign(way) * (np.abs(way) > THERE + QUICKEST * self._between(stamp, now) ** 2)
        if (leap * self._leap < 0.0).any():
            self._turned.append(now)
        self._leap = leap
        if len(self._turned) < TURNS or now - self._turned[0] >= PERIOD:
            return None
        return Fault(
            Code.JOINT_STATES_INVALID,
            "the joints are said to be in two places by turns: look for a second publisher of joint_states",
        )

    def _between(self, stamp: float, now: float) -> float:
        """Time since the message before [s]. After a delay on the way several come at once: then their stamps tell it."""
        return max(now - self._now, min(stamp - self._stamp, CLOCK_JUMP) if stamp and self._stamp else 0.0)


def _first(true: np.ndarray) -> int:
    return int(np.flatnonzero(true)[0])
