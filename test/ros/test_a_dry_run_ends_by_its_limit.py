# SPDX-License-Identifier: Apache-2.0
"""With dry_run a goal runs as ever, though the arm stands still: it ends by its own limit and by no fault, and nothing is sent."""

import pytest
from system import System
from vla_sd_msgs.action import ExecuteInstruction
from vla_sd_msgs.msg import ArmStatus

# Random weights see nothing come of what they do, and would lead to the end of the arm's reach.
SHORT = {"dry_run": True, "action_scale": 0.1}


@pytest.fixture
def system(checkpoint, tmp_path):
    with System(tmp_path, "arm", checkpoint, arm=SHORT, vla={"arm_status.grace": 1.0}, relay=False) as system:
        yield system


def test_the_goal_ends_by_its_time_limit_and_no_target_arrives(system):
    begin = len(system.statuses)
    system.client.start("pick up the milk", time_limit=6.0)
    result = system.client.result(20.0)
    assert result.error_code == ExecuteInstruction.Result.TIME_LIMIT, result.error_msg
    assert sum(not command.hold for _, command in system.commands) > 10
    told = [status for _, status in system.statuses[begin:]]
    assert any(status.state == ArmStatus.MOVING for status in told)
    assert {status.code for status in told} <= {ArmStatus.OK, ArmStatus.NO_COMMAND}, {status.message for status in told}
    assert not system.targets
