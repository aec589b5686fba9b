# SPDX-License-Identifier: Apache-2.0
"""A success signal that is published during the goal ends it with success; an older or a false one does not."""
from action_msgs.msg import GoalStatus
from processes import LATCHED
from std_msgs.msg import Bool
from vla_sd_msgs.action import ExecuteInstruction


def test_success_ends_the_goal_and_only_a_new_one_counts(vla):
    vla.ros.publish(Bool, "task_success", Bool(data=True), LATCHED)         # latched, from before the goal
    vla.start_moving(steps=4)
    vla.ros.publish(Bool, "task_success", Bool(data=False), LATCHED)
    assert not vla.client.is_complete(0.3)
    vla.ros.publish(Bool, "task_success", Bool(data=True), LATCHED)
    result = vla.client.result(2.0)
    assert vla.client.status == GoalStatus.STATUS_SUCCEEDED
    assert (result.error_code, result.error_msg) == (ExecuteInstruction.Result.NONE, "")
    assert result.termination_reason == "success"
    assert result.steps == result.decode_summary.steps == len(vla.motions()) >= 4
    vla.ros.wait_until(vla.holds, "a hold command")
