# SPDX-License-Identifier: Apache-2.0
"""Unattended, what a policy brings on itself is a failure; what befalls it is void, and its reason names no decoder."""

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from vla_sd_msgs.action import ExecuteInstruction
from vla_sd_msgs.msg import ArmStatus

from vla_sd_ros.trial.trials import by_task_success

Result = ExecuteInstruction.Result


@pytest.mark.parametrize(
    "code, success, termination",
    [
        (Result.NONE, True, "success"),
        (Result.TIME_LIMIT, False, "timeout"),
        (Result.STEP_LIMIT, False, "timeout"),
        (Result.TASK_FAILED, False, "other"),
        (Result.INFERENCE_FAILED, False, "safety_stop"),
        (ArmStatus.JOINT_LIMIT, False, "safety_stop"),
        (ArmStatus.ARM_RUNS_AWAY, False, "safety_stop"),  # pressed against something, it does so each time
        (ArmStatus.COMMAND_STALE, False, "safety_stop"),
        (Result.IMAGE_STALE, None, "other"),
        (Result.ARM_FAULT, None, "other"),
        (Result.CANCELED, None, "other"),
        (ArmStatus.HELD, None, "other"),
        (ArmStatus.ROBOT_FAULT, None, "other"),
    ],
)
def test_it_counts_by_whose_failure_it_is(code, success, termination):
    result = Result(error_code=code, error_msg="fused failed", elapsed_time=3.0)
    outcome = by_task_success(result, {})
    assert (outcome.success, outcome.termination, outcome.duration) == (success, termination, 3.0)
    assert "fused" not in outcome.why and (outcome.why != "") == (success is None)
