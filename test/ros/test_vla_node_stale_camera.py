# SPDX-License-Identifier: Apache-2.0
"""A stopped camera makes the arm hold; when it does not come back, the goal ends with IMAGE_STALE."""

import time

from action_msgs.msg import GoalStatus
from vla import PARAMETERS
from vla_sd_msgs.action import ExecuteInstruction


def test_a_stopped_camera_ends_in_hold_and_then_in_its_error_code(vla):
    vla.start_moving()
    vla.world.camera, stopped = False, time.monotonic()
    vla.ros.wait_until(vla.holds, "a hold command")
    held = vla.holds()[0][0]
    assert PARAMETERS["image.timeout"] - 0.15 < held - stopped < PARAMETERS["image.timeout"] + 0.3
    assert not vla.client.is_complete(0.5), "the grace time was not kept"

    result = vla.client.result(5.0)
    assert vla.client.status == GoalStatus.STATUS_ABORTED
    assert (result.error_code, result.termination_reason) == (ExecuteInstruction.Result.IMAGE_STALE, "fault")
    assert "The newest camera image is 1." in result.error_msg and "check the publisher" in result.error_msg
    assert result.steps == len(vla.motions())
    assert vla.motions()[-1][0] < held


def test_a_camera_that_comes_back_within_the_grace_time_lets_the_goal_go_on(vla):
    vla.start_moving()
    vla.world.camera = False
    vla.ros.wait_until(vla.holds, "a hold command")
    before = len(vla.motions())
    vla.world.camera = True
    vla.ros.wait_until(lambda: len(vla.motions()) >= before + 3, "motion after the hold")
    assert vla.client.running


def test_images_that_arrive_too_old_are_no_reason_to_move(vla):
    """Delay in the camera driver: by their stamps the images are older than image.timeout."""
    vla.world.delay = 0.8
    time.sleep(0.3)
    vla.clear_records()
    vla.client.start("pick up the milk")
    result = vla.client.result(5.0)
    assert result.error_code == ExecuteInstruction.Result.IMAGE_STALE
    assert not vla.motions()
