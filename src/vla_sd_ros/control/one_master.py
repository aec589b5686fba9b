# SPDX-License-Identifier: Apache-2.0
"""Whether one node commands the arm. A new goal takes over from the one before, so the commands of two publishers show by
goals that come by turns, or by more new goals than anybody sends."""

from collections import deque

from vla_sd_ros.control.codes import Code, Fault

MOST_GOALS = 3  # that may begin within PERIOD; a client that changes its mind is slower
PERIOD = 2.0  # s


class OneMaster:
    """Watches the goals that the commands belong to."""

    def __init__(self) -> None:
        self._goal: bytes | None = None
        self._superseded: deque[bytes] = deque(maxlen=32)  # goals that a newer one has taken over from
        self._begun: deque[float] = deque(maxlen=MOST_GOALS)
        self._conflict = float("-inf"), ""  # when there was one, and which

    def see(self, goal_id: bytes, now: float) -> None:
        """Take the goal of a command that came at the time `now` [s]."""
        if goal_id in self._superseded:
            self._conflict = now, "commands of two goals come by turns"
        elif goal_id != self._goal:
            if len(self._begun) == MOST_GOALS and now - self._begun[0] < PERIOD:
                self._conflict = now, f"more than {MOST_GOALS} goals began within {PERIOD:g} s"
            self._begun.append(now)
            if self._goal is not None:
                self._superseded.append(self._goal)
            self._goal = goal_id

    def fault(self, now: float) -> Fault | None:
        """What is wrong, until for PERIOD all has been well."""
        when, what = self._conflict
        if now - when >= PERIOD:
            return None
        return Fault(Code.COMMAND_CONFLICT, f"{what}, so the arm holds: look for a second publisher of command")
