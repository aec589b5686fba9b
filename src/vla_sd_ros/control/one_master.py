# SPDX-License-Identifier: Apache-2.0
"""Whether one node commands the arm. A new goal takes over from the one before, so the commands of two publishers show by
goals that come by turns, or by more new goals than anybody sends. A relay, a bridge or a bag that is played repeats the
commands of the running goal: they show by steps that came before, or by more commands than one per period.
"""

from collections import deque

from vla_sd_ros.control.codes import Code, Fault
from vla_sd_ros.control.command import Command

MOST_GOALS = 3  # that may begin within PERIOD; a client that changes its mind is slower
PERIOD = 2.0  # s
PACE = 0.9  # of a period, between two commands in the long run; vla_node keeps 0.98, and clocks differ


class OneMaster:
    """Watches the goals that the commands belong to, their steps, and how fast they come."""

    def __init__(self) -> None:
        self._goal: bytes | None = None
        self._superseded: deque[bytes] = deque(maxlen=32)  # goals that a newer one has taken over from
        self._begun: deque[float] = deque(maxlen=MOST_GOALS)
        self._step = -1  # the newest of the goal
        self._due = float("-inf")  # when the next command would be on time
        self._refused = float("-inf")  # when the newest came that was one too many
        self._conflict = float("-inf"), ""  # when there was one, and which

    def see(self, command: Command, now: float, delay: float) -> bool:
        """Take a command that came at the time `now` [s]; returns whether it may be executed.

        delay [s]: by which one may be late on its way, so that those after it come faster than one per period.
        """
        if command.goal_id in self._superseded:
            self._conflict = now, "commands of two goals come by turns"
            return False
        if command.goal_id != self._goal:
            if not self._begin(command, now):
                return False
        elif command.step <= self._step:
            return self._one_too_many("commands come again that came before", now)
        self._step = command.step
        if now < self._due - delay:
            return self._one_too_many("more commands come than one per period", now)
        # A period that is no number, or another that no command may have, is refused elsewhere.
        self._due = max(self._due, now) + PACE * min(delay, max(0.0, command.period))
        return True

    def fault(self, now: float) -> Fault | None:
        """What is wrong, until for PERIOD all has been well."""
        when, what = self._conflict
        if now - when >= PERIOD:
            return None
        return Fault(
            Code.COMMAND_CONFLICT,
            f"{what}, so the arm holds: look for a second publisher of command (another node, a relay, a bridge, a bag)",
        )

    def _begin(self, command: Command, now: float) -> bool:
        often = len(self._begun) == MOST_GOALS and now - self._begun[0] < PERIOD
        if often:
            self._conflict = now, f"more than {MOST_GOALS} goals began within {PERIOD:g} s"
        self._begun.append(now)
        if self._goal is not None:
            self._superseded.append(self._goal)
        self._goal, self._step = command.goal_id, command.step
        return not often

    def _one_too_many(self, what: str, now: float) -> bool:
        """A command that is one too many does no harm, as it is not executed; two of them within PERIOD are a conflict."""
        if now - self._refused < PERIOD:
            self._conflict = now, what
        self._refused = now
        return False
