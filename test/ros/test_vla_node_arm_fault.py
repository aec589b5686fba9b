# SPDX-License-Identifier: Apache-2.0
"""A fault that arm_node keeps reporting ends the goal with arm_node's code and sentence; a short one does not."""

import time

import pytest
from action_msgs.msg import GoalStatus
from processes import LATCHED
from vla import NODE
from vla_sd_msgs.action import ExecuteInstruction
from vla_sd_msgs.msg import ArmStatus


@pytest.fixture(autouse=True)
def without_arm_afterwards(vla):
    """The node forgets the arm at the next activation."""
    yield
    assert vla.ros.change_state(NODE, "deactivate") and vla.ros.change_state(NODE, "activate")


def report(vla, seconds: float, **status) -> None:
    """This status of arm_node at 10 Hz, and no other, for some time or until the goal is over."""
    vla.world.arm = False
    end = time.monotonic() + seconds
    while time.monotonic() < end and not vla.client.is_complete(0.1):
        vla.ros.publish(ArmStatus, "arm_node/status", ArmStatus(**status), LATCHED)


def test_a_lasting_fault_of_the_arm_ends_the_goal(vla):
    vla.start_moving()
    report(vla, 0.5, code=ArmStatus.JOINT_STATES_STALE, message="No joint states.")
    report(vla, 1.0, code=ArmStatus.OK, state=ArmStatus.MOVING)
    assert vla.client.running
    report(vla, 5.0, code=ArmStatus.COMMAND_INVALID, message="A value was not finite.")
    result = vla.client.result(1.0)
    assert vla.client.status == GoalStatus.STATUS_ABORTED
    assert (result.error_code, result.termination_reason) == (ArmStatus.COMMAND_INVALID, "fault")
    assert result.error_msg == "A value was not finite."
    assert result.steps == len(vla.motions())


def test_an_arm_node_that_falls_silent_ends_the_goal(vla):
    vla.start_moving()
    report(vla, 0.5, code=ArmStatus.OK, state=ArmStatus.MOVING)
    result = vla.client.result(3.0)
    assert (result.error_code, result.termination_reason) == (ExecuteInstruction.Result.ARM_FAULT, "fault")
    assert "arm_node has been silent for" in result.error_msg


def test_an_arm_node_that_was_never_heard_ends_the_goal(vla):
    vla.world.arm = False
    assert vla.ros.change_state(NODE, "deactivate") and vla.ros.change_state(NODE, "activate")
    vla.client.start("pick up the milk")
    result = vla.client.result(5.0)
    assert (result.error_code, result.termination_reason) == (ExecuteInstruction.Result.ARM_FAULT, "fault")
    assert "No status of arm_node has come for 1.0 s" in result.error_msg and "start and activate arm_node" in result.error_msg
    assert 0.9 < result.elapsed_time < 2.0
