# SPDX-License-Identifier: Apache-2.0
"""Goals of which nothing moves the arm any more, whatever still comes."""

from vla_sd_ros.control.codes import Fault

MOST = 32  # that are remembered, of those that came while the arm could not begin one


class EndedGoals(dict[bytes, Fault]):
    """The fault that has ended each goal; none is older than the running one."""

    def give_up(self, goal_id: bytes | None, fault: Fault) -> None:
        """End a goal that does not run, unless that was done before."""
        if goal_id is not None and goal_id not in self:
            self[goal_id] = fault
            if len(self) > MOST:
                self.pop(next(iter(self)))

    def tell_otherwise(self, old: Fault, new: Fault) -> None:
        """Give another reason for the goals that one fault has ended."""
        for goal_id in [goal_id for goal_id, fault in self.items() if fault == old]:
            self[goal_id] = new
