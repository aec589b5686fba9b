# SPDX-License-Identifier: Apache-2.0
"""What a gripper shall do: the opening that a policy means, and the goals that bring its driver there."""

import math
from enum import IntEnum
from typing import Protocol


class GripperSwitch:
    """Hysteresis between the openings that the model wants, 0 (closed) to 1 (open), and the two states of a gripper."""

    def __init__(self):
        self.opening: float | None = None  # the last one that was wanted, 1.0 or 0.0; None: none yet

    def update(self, wanted: float, open_above: float, close_below: float) -> float:
        """The opening that is wanted now, 1.0 or 0.0.

        Opens at `open_above` or more, closes at `close_below` or less; between the two it stays. The first one is decided
        by the middle.
        """
        if self.opening is None:
            self.opening = 1.0 if wanted >= (open_above + close_below) / 2.0 else 0.0
        elif wanted >= open_above:
            self.opening = 1.0
        elif wanted <= close_below:
            self.opening = 0.0
        return self.opening


class Act(IntEnum):
    """What a driver is asked to do."""

    CLOSE = 0
    OPEN = 1
    HOME = 2  # find out how far the fingers go; drops what they hold


class State(IntEnum):
    """Where a gripper is; same names and values as the constants GRIPPER_... of vla_sd_msgs/ArmStatus."""

    UNKNOWN = 0
    OPEN = 1
    CLOSED = 2
    MOVING = 3


class Driver(Protocol):
    """What GripperGoals needs of the client of a gripper's driver. No method waits for anything."""

    def missing(self, act: Act) -> str:
        """One sentence while nobody is there who could do it; empty otherwise."""

    def servers(self, act: Act) -> frozenset[bytes]:
        """Who is there that could do it. One that was started anew is another; one that was killed may still be told for a while."""

    def begin(self, act: Act, number: int) -> None:
        """Send a goal. Its end is told by `GripperGoals.ended` with this number."""

    def cancel(self) -> None:
        """Ask the goal sent last to end; once it is accepted, where it is not yet."""


class GripperGoals:
    """One goal of a gripper's driver at a time, until the driver has confirmed what is wanted.

    A driver answers a cancel in its own time, with a stop of whatever moves THEN: franka_gripper looks every 33 ms, and a
    goal sent right after the cancel of another is stopped with it. So the next goal waits until the one before has ended,
    and what did not come true is sent again. Only a goal that succeeded tells where the gripper is: what is confirmed is
    not sent again, whichever goal of vla_node wants it, as long as the driver that confirmed it is there and no other has come.
    """

    RETRY = 0.2  # s, from a failure to the next attempt
    ATTEMPTS = 6  # in one round
    PAUSE = 2.0  # s, from the last attempt of a round to the first of the next, while `want` still asks for it
    WISH = 3.0  # s, for which a wish counts that is not said again: nothing moves minutes after the goal that wanted it
    ENDING = 2.0  # s, that a driver may take to end a goal that was cancelled; then it is given up
    HOMING_TIMEOUT = 60.0  # s, for Act.HOME instead of the timeout

    def __init__(self, driver: Driver):
        self.confirmed: Act | None = None  # Act.OPEN or Act.CLOSE as the driver has confirmed it; None: not known
        self._confirmed_by: frozenset[bytes] = frozenset()
        self._driver = driver
        self._wanted: Act | None = None
        self._homing = False
        self._running: Act | None = None  # what the goal under way does
        self._number = 0  # of that goal, or of the last one
        self._now = self._sent_at = self._wished_at = 0.0
        self._cancelled_at: float | None = None
        self._failures, self._failed_at = 0, -math.inf
        self._missing = self._failure = ""

    @property
    def problem(self) -> str:
        """One sentence while the driver does not do what is wanted; stays until a goal succeeds."""
        return self._missing or self._failure

    @property
    def state(self) -> State:
        """Where the gripper is, by what the driver has confirmed."""
        if self._running is not None:
            return State.MOVING
        return {None: State.UNKNOWN, Act.OPEN: State.OPEN, Act.CLOSE: State.CLOSED}[self.confirmed]

    def want(self, now: float, opening: float, timeout: float) -> None:
        """Open (1.0) or close (0.0); may be said again and again. now [s, steady], timeout [s]: as of `poll`."""
        act, self._wished_at = Act.OPEN if opening > 0.5 else Act.CLOSE, now
        if act != self._wanted or self._failures >= self.ATTEMPTS and now - self._failed_at > self.PAUSE:
            self._wanted, self._failures = act, 0
        self.poll(now, timeout)

    def home(self, now: float, timeout: float) -> None:
        """Home the gripper, once; what is wanted comes after it."""
        self._homing, self._failures, self._failed_at = True, 0, -math.inf
        self.poll(now, timeout)

    def rest(self) -> None:
        """Send nothing more until something is wanted anew; what is under way ends by itself.

        Others may move the gripper from here on, so it is opened anew when that is wanted. It is not closed anew: a Franka
        Hand answers a grasp of what it holds with false.
        """
        self._wanted, self._homing, self._missing = None, self._running == Act.HOME, ""
        if self.confirmed == Act.OPEN:
            self.confirmed = None

    def poll(self, now: float, timeout: float) -> None:
        """Let time pass up to `now` [s, steady]. timeout [s]: for a goal to end."""
        self._now = now
        if self.confirmed is not None:
            self._doubt(self._driver.servers(self.confirmed))
        if self._running is not None:
            self._watch(now, self.HOMING_TIMEOUT if self._running == Act.HOME else timeout)
        if self._running is None:
            self._begin(now)

    def ended(self, number: int, failure: str = "") -> None:
        """The goal of this number has ended; `failure`: one sentence where it did not succeed."""
        if number != self._number or self._running is None:
            return  # given up long ago
        act, unwanted = self._running, self._cancelled_at is not None
        self._running = self._cancelled_at = None
        if act == Act.HOME:
            self._homing = False
        if not failure:
            self.confirmed, self._confirmed_by = act if act != Act.HOME else None, self._driver.servers(act)
            self._failures, self._failure = 0, ""
        elif not unwanted:
            self._fail(failure)
        self._begin(self._now)

    def _doubt(self, there: frozenset[bytes]) -> None:
        """Without the driver that confirmed it, or with another in its place, the fingers may be anywhere."""
        if not there or there - self._confirmed_by:
            self.confirmed = None

    def _due(self) -> Act | None:
        if self._homing:
            return Act.HOME
        return self._wanted if self._wanted != self.confirmed else None

    def _begin(self, now: float) -> None:
        if self._wanted is not None and now - self._wished_at > self.WISH:
            self._wanted = None
        act = self._due()
        if self._failures >= self.ATTEMPTS or self._failures and now - self._failed_at < self.RETRY:
            return
        self._missing = self._driver.missing(act) if act is not None else ""
        if act is None or self._missing:
            return
        self._running, self.confirmed, self._sent_at = act, None, now
        self._number += 1
        self._driver.begin(act, self._number)

    def _watch(self, now: float, timeout: float) -> None:
        if self._cancelled_at is not None:
            if now - self._cancelled_at > self.ENDING:
                self._running = self._cancelled_at = None
        elif gone := self._driver.missing(self._running):  # and with it the answer
            self._running, self._homing = None, False
            self._fail(gone)
        elif now - self._sent_at > timeout:
            self._failures, self._homing = self.ATTEMPTS - 1, False
            self._fail(f"the driver did not return within {timeout:g} s, so its goal was given up")
            self._cancel(now)
        elif self._homing and self._running != Act.HOME or self._wanted not in (None, self._running) and not self._homing:
            self._cancel(now)

    def _cancel(self, now: float) -> None:
        self._cancelled_at = now
        self._driver.cancel()

    def _fail(self, failure: str) -> None:
        self._failures, self._failed_at, self._failure = self._failures + 1, self._now, failure
