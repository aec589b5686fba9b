# SPDX-License-Identifier: Apache-2.0
"""Images that are no pictures count as missing ones: single ones are skipped, lasting ones end the goal with the reason; an
encoding that cannot be read is told when the first image comes.
"""

import time

import cv2
import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from diagnostic_msgs.msg import DiagnosticStatus
from vla import Vla
from vla_sd_msgs.action import ExecuteInstruction

from vla_sd_ros.client import GoalRejected

WHOLE = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))[1].tobytes()
CUT = WHOLE[: len(WHOLE) // 4] + b"\xff\xd9"  # OpenCV makes a picture of it, three quarters of which are grey


@pytest.fixture
def compressed(checkpoint, tmp_path):
    vla = Vla(checkpoint, tmp_path, **{"image.compressed": True})
    try:
        vla.wait_until_active()
        yield vla
    finally:
        vla.close()


def skipped(vla) -> int:
    vla.diagnostics.clear()
    vla.ros.wait_until(lambda: any("vla_node" in m.status[0].name for _, m in vla.diagnostics), "diagnostics")
    (values,) = [m.status[0].values for _, m in vla.diagnostics if "vla_node" in m.status[0].name][-1:]
    return int({v.key: v.value for v in values}["images not decoded"])


def test_single_cut_images_are_skipped_and_counted_and_lasting_ones_end_the_goal(compressed):
    vla = compressed
    vla.world.jpeg = lambda number: CUT if number % 7 == 3 else WHOLE
    time.sleep(0.5)  # some of them
    vla.start_moving(steps=20)
    assert vla.client.running and not vla.holds()
    assert 1 <= skipped(vla) <= 10
    vla.world.jpeg = lambda number: CUT
    result = vla.client.result(5.0)
    assert (result.error_code, result.termination_reason) == (ExecuteInstruction.Result.IMAGE_UNDECODABLE, "fault")
    assert "premature end of data" in result.error_msg
    vla.ros.wait_until(vla.holds, "a hold command")
    assert result.steps == len(vla.motions()), "no command was decided on a part of a picture"


def test_an_encoding_that_cannot_be_read_is_told_before_a_goal_and_ends_a_running_one(vla):
    vla.start_moving()
    vla.world.encoding = "bayer_rggb8"
    result = vla.client.result(5.0)
    assert vla.client.status == GoalStatus.STATUS_ABORTED
    assert (result.error_code, result.termination_reason) == (ExecuteInstruction.Result.IMAGE_UNDECODABLE, "fault")
    assert "image encoding 'bayer_rggb8' is not supported" in result.error_msg
    vla.ros.wait_until(vla.holds, "a hold command")
    with pytest.raises(GoalRejected, match="camera's images cannot be used: image encoding 'bayer_rggb8' .* image_proc"):
        vla.client.start("pick up the milk")
        vla.client.result(5.0)
    vla.process.wait_for_line("The camera's images cannot be used: image encoding 'bayer_rggb8'")
    vla.ros.wait_until(
        lambda: [
            m for _, m in vla.diagnostics if m.status[0].level == DiagnosticStatus.WARN and "cannot be used" in m.status[0].message
        ],
        "a warning in /diagnostics",
    )

    vla.clear()
    vla.start_moving(steps=3)


def test_a_webcams_yuyv_is_read(vla):
    vla.world.encoding = "yuv422_yuy2"  # of two bytes a pixel; the rest of each row is padding
    vla.start_moving(steps=3)
