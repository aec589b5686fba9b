# SPDX-License-Identifier: Apache-2.0
"""Whether joint states are those of this arm, measured one after the other."""

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vla_sd_ros.control.codes import Code, Fault

if TYPE_CHECKING:
    from vla_sd_ros.control.controller import ArmController

OUTSIDE = 0.1  # rad or m: farther than this beyond its limits no joint of this arm is
JUMP = 0.1  # rad or m: what a joint may seem to move at once, for delays on the way
HASTE = 2.0  # times the velocity limit: for messages that come faster than they were measured
CLOCK_JUMP = 0.5  # s between the time by the stamps and the time that passed here
TRUST = 0.1  # s without a contradiction, after which joint states are believed again, if they are where they were
TIP, TIP_SPEED = 0.05, 1.0  # m, m/s: what the tip may seem to move at once, and as fast as that beside it
STILL = 0.005  # rad or m: by that of each joint no tip moves by TIP
SILENCE = 1.0  # s without joint states, at least, after which an arm that moves by itself is at rest
DOUBTED = 0.3  # s without a doubt, after which somebody can vouch for them
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


def admit(watch: "JointStateWatch", controller: "ArmController", q: np.ndarray, stamp: float, now: float) -> bool:
    """Whether the controller shall measure the joint positions q (n,), as in `check`; it holds while they are doubtful.

    An arm that is lost may really be there: it must not be pulled back, so the target is given up. Then they are measured again,
    for a robot's controller that is inactive is told where the arm is; but no goal begins.
    """
    if fault := watch.check(q, stamp, now, controller.sent_joints):
        controller.block("joint states", fault)
    else:
        controller.unblock("joint states")
        controller.sent_joints = controller.joints  # where it was sent before tells no longer where it is
    if watch.lost:
        controller.let_go("its target was given up, because the arm was said to be elsewhere than before")
        return not controller.letting_go
    return fault is None


class JointStateWatch:
    """Compares each joint state with the limits of the arm, with the one before, and after a doubt with the last one believed.

    `lost`: the joints are said to be elsewhere than when they were believed last, and nobody saw how they got there. That does not
    pass by itself: they go back, or somebody who sees the arm says that it is so.
    """

    def __init__(
        self,
        names: Sequence[str],
        lower: np.ndarray,
        upper: np.ndarray,
        velocity: np.ndarray,
        tip: Callable[[np.ndarray], np.ndarray] = lambda q: np.zeros(3),
    ):
        """Limits (n,) [rad], [rad/s]; tip(q): where joint positions (n,) have the end effector (3,) [m]."""
        self._names, self._lower, self._upper, self._tip = names, lower, upper, tip
        self._velocity = np.minimum(velocity, FASTEST)
        self._q: np.ndarray | None = None  # of the message before; None where that made no sense
        self._believed: np.ndarray | None = None
        self.lost, self.silence = False, SILENCE
        self._doubted_at = -math.inf  # s, when joint states were doubtful last
        self._stamp = self._now = 0.0
        self._doubt: Fault | None = None
        self._trusted_from = 0.0
        self._leap = np.zeros(len(names))  # where a joint leapt in the newest message: -1.0 or 1.0, by its direction
        self._turned: deque[float] = deque(maxlen=TURNS)  # when one leapt back

    def check(self, q: np.ndarray, stamp: float, now: float, sent: np.ndarray | None = None) -> Fault | None:
        """What is wrong with the joint positions q (n,) stamped `stamp` [s], 0 for no stamp, that came at `now`.

        sent: where the joints (n,) were sent, if that is known: an arm that went there unseen is not lost.
        """
        if fault := self._nonsense(q):
            self.refuse(now)
            return fault
        contradiction = self._contradiction(self._q, q, stamp, now) if self._q is not None else None
        by_turns = self._by_turns(q, stamp, now)
        seen = self._believed is self._q and now - self._now <= self.silence
        self._q, self._stamp, self._now = q, stamp, now
        if contradiction:
            self._doubt, self._trusted_from = contradiction, now + TRUST
        doubt = self._doubt if now < self._trusted_from else by_turns
        if doubt:
            self._doubted_at = now
        return self._believe(q, sent, seen, doubt)

    def leaps(self, q: np.ndarray, stamp: float, now: float) -> bool:
        """Whether joint states that would come now, arguments as in `check`, do not go on from those before them."""
        return self._q is None or now - self._now > self.silence or self._contradiction(self._q, q, stamp, now) is not None

    def refuse(self, now: float) -> None:
        """What came at `now` [s] made no sense: nobody can vouch for it, and what comes next does not go on from it."""
        self._q, self._doubted_at = None, now

    def forget(self) -> None:
        """The next joint states may lie anywhere: the arm was put elsewhere, which only a simulator can do, or begins anew."""
        self._q = self._believed = None
        self.lost = False

    def vouch(self, now: float) -> bool:
        """Somebody who sees the arm says that it stands as its joint states say. False while these make no sense: nothing changes."""
        if now - self._doubted_at < DOUBTED:
            return False
        self.forget()
        return True

    def _nonsense(self, q: np.ndarray) -> Fault | None:
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
        return None

    def _believe(self, q: np.ndarray, sent: np.ndarray | None, seen: bool, doubt: Fault | None) -> Fault | None:
        """The doubt; else what is wrong with where the joints are now. seen: whether it was how they got here."""
        before = self._believed
        about = [there for there in (before, sent) if there is not None]
        if before is None or (seen and not doubt) or any(not self._leapt(there, q, 0.0).any() for there in about):
            self._believed, self.lost = q, False
        if doubt or before is None or self._believed is q:
            return doubt
        self.lost = True
        i = int(np.abs(q - before).argmax())
        return Fault(
            Code.JOINT_STATES_INVALID,
            f"joint '{self._names[i]}' is said to be at {q[i]:.2f}, but was at {before[i]:.2f} before the joint states jumped or "
            "paused: see whether they are those of the arm as it stands; no goal begins until ~/recover is called or arm_node is "
            "activated again",
        )

    def _contradiction(self, before: np.ndarray, q: np.ndarray, stamp: float, now: float) -> Fault | None:
        passed = now - self._now
        if stamp and self._stamp and abs(stamp - self._stamp - passed) > CLOCK_JUMP:
            return Fault(
                Code.CLOCK_JUMP,
                f"the stamps of the joint states went {stamp - self._stamp:.2f} s in {passed:.2f} s: a clock was set, or "
                "something was stopped for a while",
            )
        between = self._between(stamp, now)
        leapt = self._leapt(before, q, between)
        if not leapt.any():
            return None
        i = _first(leapt)
        return Fault(
            Code.JOINT_STATES_INVALID,
            f"joint '{self._names[i]}' jumped from {before[i]:.2f} to {q[i]:.2f} in {between:.3f} s, faster than it can move: "
            "look for a second publisher of joint_states",
        )

    def _leapt(self, before: np.ndarray, q: np.ndarray, between: float) -> np.ndarray:
        """Which joints (n,) moved farther within a time [s] than they can; where only their tip did, the one that moved most."""
        way = np.abs(q - before)
        leapt = way > JUMP + HASTE * self._velocity * between
        if leapt.any() or way.max() < STILL:  # at 1 kHz the tip is not looked for
            return leapt
        if np.linalg.norm(self._tip(q) - self._tip(before)) > TIP + TIP_SPEED * between:
            leapt[way.argmax()] = True
        return leapt

    def _by_turns(self, q: np.ndarray, stamp: float, now: float) -> Fault | None:
        """Whether the positions go there and back as no arm does: those of two publishers come by turns, however near they are."""
        way = q - self._q if self._q is not None else np.zeros_like(q)
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
