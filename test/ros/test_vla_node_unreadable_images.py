# SPDX-License-Identifier: Apache-2.0
"""When inference fails the arm holds, the goal ends with INFERENCE_FAILED, and the next goal works."""
from action_msgs.msg import GoalStatus
from vla_sd_msgs.action import ExecuteInstruction


def test_a_failed_inference_ends_the_goal_and_leaves_the_node_usable(vla):
    vla.start_moving()
    vla.world.encoding = "yuv422"
    result = vla.client.result(5.0)
    assert vla.client.status == GoalStatus.STATUS_ABORTED
    assert (result.error_code, result.termination_reason) == (ExecuteInstruction.Result.INFERENCE_FAILED, "fault")
    assert "image encoding 'yuv422' is not supported" in result.error_msg
    assert result.steps == len(vla.motions())
    vla.ros.wait_until(vla.holds, "a hold command")

    vla.clear()
    vla.start_moving(steps=3)
