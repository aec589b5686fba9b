# SPDX-License-Identifier: Apache-2.0
"""A cancelled goal stops the motion within 200 ms, and its result is complete."""

import time

from action_msgs.msg import GoalStatus
from vla_sd_msgs.action import ExecuteInstruction


def test_cancel_stops_motion_within_200_ms(vla):
    for _ in range(3):
        vla.clear()
        vla.start_moving(steps=3)
        asked = time.monotonic()
        assert vla.client.cancel()
        vla.ros.wait_until(vla.holds, "a hold command")
        assert vla.holds()[0][0] - asked < 0.2

        result = vla.client.result(2.0)
        assert vla.client.status == GoalStatus.STATUS_CANCELED
        assert result.error_code == ExecuteInstruction.Result.CANCELED
        assert result.termination_reason == "cancelled"
        assert result.error_msg == "The client cancelled the goal."
        assert result.steps == result.decode_summary.steps == len(vla.motions()) >= 3
        assert result.elapsed_time > 0.1
        assert result.decode_summary.decoder == "autoregressive"
        assert 0.0 < result.decode_summary.latency_median_ms <= result.decode_summary.latency_p95_ms
        assert abs(sum(result.decode_summary.path_shares) - 1.0) < 1e-6

        time.sleep(0.4)  # four images more
        assert [c.hold for _, c in vla.commands][-1], "a motion came after the hold"


def test_a_goal_that_is_over_cannot_be_cancelled(vla):
    vla.client.start("pick up the milk", step_limit=1)
    vla.client.result(5.0)
    assert not vla.client.cancel()
