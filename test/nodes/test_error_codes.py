# SPDX-License-Identifier: Apache-2.0
"""The error codes that vla_node decides with are those of the action's definition."""

import pytest

from vla_sd_ros.watching.goal import ARM_FAULTS, GoalCode

actions = pytest.importorskip("vla_sd_msgs.action", reason="vla_sd_msgs is not installed (pip install ./msg)")


@pytest.mark.parametrize("code", list(GoalCode))
def test_each_code_is_that_of_the_action(code):
    assert getattr(actions.ExecuteInstruction.Result, code.name) == code


def test_faults_of_the_arm_status_lie_in_the_reserved_block():
    from vla_sd_msgs.msg import ArmStatus

    assert {ArmStatus.COMMAND_STALE, ArmStatus.JOINT_STATES_STALE, ArmStatus.COMMAND_INVALID} <= set(ARM_FAULTS)
    assert ArmStatus.NO_COMMAND not in ARM_FAULTS
