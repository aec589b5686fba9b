# SPDX-License-Identifier: Apache-2.0
"""Deactivation and SIGTERM during a goal: the arm holds, the goal has its result, the process ends with exit code 0."""

import signal

from action_msgs.msg import GoalStatus
from vla import NODE, Vla
from vla_sd_msgs.action import ExecuteInstruction


def check_result(vla) -> None:
    result = vla.client.result(3.0)
    assert vla.client.status == GoalStatus.STATUS_ABORTED
    assert (result.error_code, result.termination_reason) == (ExecuteInstruction.Result.NODE_DEACTIVATED, "fault")
    assert result.error_msg == "vla_node was deactivated or shut down during the goal."
    assert result.steps == result.decode_summary.steps == len(vla.motions())
    vla.ros.wait_until(vla.holds, "a hold command")
    assert vla.commands[-1][1].hold


def test_deactivation_during_a_goal_ends_it_and_the_node_can_be_activated_again(vla):
    vla.start_moving(steps=3)
    assert vla.ros.change_state(NODE, "deactivate")
    check_result(vla)
    assert vla.ros.change_state(NODE, "activate")
    vla.start_moving(steps=2)


def test_sigterm_during_a_goal_holds_answers_and_exits_with_0_within_3_s(checkpoint, tmp_path):
    vla = Vla(checkpoint, tmp_path)
    try:
        vla.wait_until_active()
        vla.start_moving(steps=3)
        code, seconds = vla.process.end(signal.SIGTERM)
        assert code == 0 and seconds < 3.0
        check_result(vla)
        assert "Traceback" not in vla.process.log and "could not stop cleanly" not in vla.process.log
    finally:
        vla.close()
