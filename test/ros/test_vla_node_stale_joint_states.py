# SPDX-License-Identifier: Apache-2.0
"""Stopped joint states make the arm hold; when they do not come back, the goal ends with JOINT_STATES_STALE."""

import time

from action_msgs.msg import GoalStatus
from vla import PARAMETERS
from vla_sd_msgs.action import ExecuteInstruction


def test_stopped_joint_states_end_in_hold_and_then_in_their_error_code(vla):
    vla.start_moving()
    vla.world.joint_states, stopped = False, time.monotonic()
    vla.ros.wait_until(vla.holds, "a hold command")
    held = vla.holds()[0][0]
    assert PARAMETERS["joint_states.timeout"] - 0.1 < held - stopped < PARAMETERS["joint_states.timeout"] + 0.3
    assert not vla.client.is_complete(0.5), "the grace time was not kept"

    result = vla.client.result(5.0)
    assert vla.client.status == GoalStatus.STATUS_ABORTED
    assert (result.error_code, result.termination_reason) == (ExecuteInstruction.Result.JOINT_STATES_STALE, "fault")
    assert "The newest joint state is 1." in result.error_msg
    assert result.steps == len(vla.motions())
    assert vla.motions()[-1][0] < held, "images kept the arm moving without joint states"


def test_joint_states_that_come_back_let_the_goal_go_on(vla):
    vla.start_moving()
    vla.world.joint_states = False
    vla.ros.wait_until(vla.holds, "a hold command")
    before = len(vla.motions())
    vla.world.joint_states = True
    vla.ros.wait_until(lambda: len(vla.motions()) >= before + 3, "motion after the hold")
    assert vla.client.running


def test_an_old_joint_state_without_a_stamp_is_no_reason_to_move(vla):
    vla.world.stamped = False
    time.sleep(0.1)
    vla.world.joint_states = False
    time.sleep(0.7)
    vla.clear_records()
    vla.client.start("pick up the milk")
    assert vla.client.result(3.0).error_code == ExecuteInstruction.Result.JOINT_STATES_STALE
    assert not vla.motions()


def test_joint_states_without_stamps_are_fresh_when_they_come(vla):
    vla.world.stamped = False
    vla.start_moving(steps=8)
    assert not vla.holds()
