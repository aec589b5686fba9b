# SPDX-License-Identifier: Apache-2.0
"""A goal ends at its time limit or its step limit, its own or the node's, and the arm holds."""

import pytest
from action_msgs.msg import GoalStatus
from vla import NODE
from vla_sd_msgs.action import ExecuteInstruction


def test_the_time_limit_ends_the_goal(vla):
    vla.start_moving(time_limit=1.0)
    result = vla.client.result(5.0)
    assert vla.client.status == GoalStatus.STATUS_ABORTED
    assert (result.error_code, result.termination_reason) == (ExecuteInstruction.Result.TIME_LIMIT, "time_limit")
    assert result.error_msg == "The time limit of 1 s ran out before success was signalled."
    assert result.elapsed_time == pytest.approx(1.0, abs=0.2)
    assert result.steps == len(vla.motions())
    vla.ros.wait_until(vla.holds, "a hold command")


@pytest.mark.parametrize("own", [True, False])
def test_the_step_limit_ends_the_goal_after_exactly_that_many_actions(vla, own):
    if not own:
        assert vla.ros.set_parameter(NODE, "goal.step_limit", 4).successful
    try:
        vla.client.start("pick up the milk", step_limit=4 if own else 0)
        result = vla.client.result(5.0)
    finally:
        assert vla.ros.set_parameter(NODE, "goal.step_limit", 1000).successful
    assert vla.client.status == GoalStatus.STATUS_ABORTED
    assert (result.error_code, result.termination_reason) == (ExecuteInstruction.Result.STEP_LIMIT, "step_limit")
    assert result.steps == 4
    vla.ros.wait_until(vla.holds, "a hold command")
    assert [c.step for _, c in vla.motions()] == [0, 1, 2, 3]
    assert vla.holds()[0][0] - vla.motions()[-1][0] > 0.08, "the last action was cut short"
