# SPDX-License-Identifier: Apache-2.0
"""The feedback of a goal tells what the gripper does, and what it fails to do, as arm_node says it."""

from processes import LATCHED
from vla_sd_msgs.msg import ArmStatus


def test_the_feedback_of_a_goal_tells_of_a_grasp_that_failed(vla):
    vla.world.arm = False  # it speaks here
    vla.start_moving()
    said = ArmStatus(state=ArmStatus.MOVING, gripper=ArmStatus.GRIPPER_UNKNOWN, gripper_message="the grasp failed")
    vla.ros.publish(ArmStatus, "arm_node/status", said, LATCHED)
    vla.wait_for_feedback(lambda feedback: feedback.gripper_message == "the grasp failed")
    said = ArmStatus(state=ArmStatus.MOVING, gripper=ArmStatus.GRIPPER_CLOSED)
    vla.ros.publish(ArmStatus, "arm_node/status", said, LATCHED)
    assert vla.wait_for_feedback(lambda feedback: feedback.gripper == ArmStatus.GRIPPER_CLOSED).gripper_message == ""
    assert vla.ros.change_state("vla_node", "deactivate") and vla.ros.change_state("vla_node", "activate")  # forget the arm
