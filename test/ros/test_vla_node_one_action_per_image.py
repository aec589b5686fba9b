# SPDX-License-Identifier: Apache-2.0
"""Each action is decided on the newest image, no image is used twice, and the pace is the control period."""

import pytest


@pytest.mark.parametrize("camera_rate, pace", [(25.0, 0.1), (4.0, 0.25)])
def test_one_action_per_new_image_at_the_control_period(vla, camera_rate, pace):
    vla.world.camera_rate = camera_rate
    vla.start_moving(steps=12)
    vla.client.cancel()
    stamps = [s.header.stamp.sec + 1e-9 * s.header.stamp.nanosec for _, s in vla.steps[2:]]
    assert len(set(stamps)) == len(stamps)
    mean = (stamps[-1] - stamps[0]) / (len(stamps) - 1)
    assert 0.9 * pace < mean < 1.5 * pace


def test_a_step_is_told_alike_as_command_decode_and_feedback(vla):
    vla.start_moving(steps=3)
    vla.client.is_complete(0.3)
    feedback = vla.client.feedback
    told = lambda messages: next((m for _, m in messages if m.step == feedback.step - 1), None)  # noqa: E731
    command = vla.ros.wait_until(lambda: told(vla.motions()), "the command of that step")
    decode = vla.ros.wait_until(lambda: told(vla.steps), "the decode of that step")
    assert str(feedback.decode) == str(decode)  # as text, because NaN does not equal NaN
    assert command.goal_id == decode.goal_id and command.header.stamp == decode.header.stamp
    assert command.header.frame_id == "panda_link0" and decode.header.frame_id == "camera_optical_frame"
    assert command.period.nanosec == 100_000_000
    t, r = command.translation, command.rotation
    assert [t.x, t.y, t.z, r.x, r.y, r.z, command.gripper] == pytest.approx(list(decode.action), abs=1e-6)
    assert decode.forward_passes > 0 and 0.0 < decode.total_ms < decode.image_to_command_ms + 1.0
