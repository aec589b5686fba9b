# SPDX-License-Identifier: Apache-2.0
"""A camera that hangs, or shows nothing, makes the arm hold though its messages are fresh; if it lasts, the goal ends."""

import time

from action_msgs.msg import GoalStatus
from vla import PARAMETERS

from vla_sd_ros.watching.goal import GoalCode


def check_end(vla, code: GoalCode, words: str) -> None:
    result = vla.client.result(5.0)
    assert vla.client.status == GoalStatus.STATUS_ABORTED
    assert (result.error_code, result.termination_reason) == (code, "fault")
    assert words in result.error_msg
    assert result.steps == len(vla.motions())
    # The last hold is that of the end, the one before that of the picture.
    vla.ros.wait_until(lambda: len(vla.holds()) >= 2, "both holds")
    assert not vla.motions() or vla.motions()[-1][0] < vla.holds()[-2][0]


def test_a_picture_that_stays_the_same_while_the_arm_moves_ends_the_goal(vla):
    vla.start_moving()
    vla.world.joint_speed, began = 0.5, time.monotonic()
    vla.ros.wait_until(vla.holds, "a hold command")
    assert vla.holds()[0][0] - began < PARAMETERS["image.timeout"] + 0.3
    check_end(vla, GoalCode.IMAGE_FROZEN, "start the camera's driver again")


def test_the_same_picture_of_a_still_arm_lets_the_goal_go_on(vla):
    vla.start_moving()
    assert not vla.client.is_complete(PARAMETERS["image.timeout"] + 0.3)
    assert not vla.holds()


def test_a_dark_picture_holds_within_a_period_and_light_in_time_lets_the_goal_go_on(vla):
    vla.start_moving()
    vla.world.light, began = 0.01, time.monotonic()
    vla.ros.wait_until(vla.holds, "a hold command")
    assert vla.holds()[0][0] - began < 0.1 + PARAMETERS["control_period"] + 0.2
    before = len(vla.motions())
    vla.world.light = 1.0
    vla.ros.wait_until(lambda: len(vla.motions()) >= before + 3, "motion after the hold")
    vla.world.light = 0.01
    vla.clear_records()
    vla.ros.wait_until(vla.holds, "a hold command")
    assert vla.client.result(5.0).error_code == GoalCode.IMAGE_BLANK


def test_a_picture_of_one_colour_holds_and_the_scene_in_time_lets_the_goal_go_on(vla):
    vla.start_moving()
    vla.world.colour = (255, 0, 255)
    vla.ros.wait_until(vla.holds, "a hold command")
    before = len(vla.motions())
    time.sleep(0.5)
    assert len(vla.motions()) == before
    vla.world.colour = None
    vla.ros.wait_until(lambda: len(vla.motions()) >= before + 3, "motion after the hold")


def test_a_dark_picture_is_no_reason_to_begin(vla):
    vla.world.light = 0.0
    time.sleep(0.3)
    vla.clear_records()
    vla.client.start("pick up the milk")
    vla.ros.wait_until(vla.holds, "a hold command")
    check_end(vla, GoalCode.IMAGE_BLANK, "The camera shows nothing: the contrast is 0.0 (limit 2)")
    assert not vla.motions()
