# SPDX-License-Identifier: Apache-2.0
"""What the gripper does, and what it fails to do, is in ~/status and in the goal's feedback; homing is a service."""

import sys
import time
from pathlib import Path

import pytest
from panda import Arm, command
from processes import LATCHED
from std_srvs.srv import Trigger
from vla_sd_msgs.msg import ArmStatus, EndEffectorCommand

for folder in ("", "arms"):
    sys.path.insert(0, str(Path(__file__).parents[1] / folder))


@pytest.fixture
def hand(ros):
    """A Franka Hand that was not homed, behind its server; it closes on nothing."""
    import standins

    standins.use()
    from franka_gripper import FrankaGripperNode, serve
    from franka_hand import Hand

    class Bench:
        robot, servers = ros.node, []

    node = FrankaGripperNode(Bench, Hand(width=0.03, max_width=0.0))
    serve(Bench, node)
    yield node.hand
    for server in Bench.servers:
        server.destroy()


def test_a_hand_that_was_not_homed_is_told_in_status_and_homed_by_the_service(start, ros, hand):
    process = start("vla_sd_ros.nodes.arm_node", {
        "autostart": True, "gripper.interface": "franka", "gripper.action": "franka_gripper", "gripper.open_position": 0.08})
    statuses = ros.listen(ArmStatus, "arm_node/status", LATCHED)
    measured = Arm(ros)
    process.wait_for_line("is active")
    ros.wait_until(lambda: statuses, "a status")
    last = lambda: statuses[-1][1]  # noqa: E731
    ros.wait_until(lambda: "no joint states" not in last().message, "joint states")

    def move(condition, what):
        for step in range(50):
            ros.publish(EndEffectorCommand, "command", command(step=step, gripper=1.0))
            if condition():
                return
            time.sleep(0.2)
        pytest.fail(f"waited in vain for {what}")

    move(lambda: "call ~/home_gripper" in last().gripper_message, "the sentence about homing")
    assert "/vla/franka_gripper/move says: Command failed!" in last().gripper_message
    busy = ros.call(Trigger, "arm_node/home_gripper", Trigger.Request())
    assert not busy.success and "executes a goal" in busy.message
    ros.publish(EndEffectorCommand, "command", command(step=99, hold=True))
    ros.wait_until(lambda: last().state == ArmStatus.HOLDING, "a hold")
    begun = ros.call(Trigger, "arm_node/home_gripper", Trigger.Request())
    assert begun.success and "homing has begun" in begun.message
    ros.wait_until(lambda: last().gripper == ArmStatus.GRIPPER_OPEN, "an open gripper")
    assert last().gripper_message == "" and hand.width == pytest.approx(0.079)
    measured.stop()


def test_the_feedback_of_a_goal_tells_of_a_grasp_that_failed(vla):
    vla.start_moving()
    said = ArmStatus(state=ArmStatus.MOVING, gripper=ArmStatus.GRIPPER_UNKNOWN, gripper_message="the grasp failed")
    vla.ros.publish(ArmStatus, "arm_node/status", said, LATCHED)
    vla.ros.wait_until(lambda: vla.client.feedback.gripper_message == "the grasp failed", "the feedback")
    said = ArmStatus(state=ArmStatus.MOVING, gripper=ArmStatus.GRIPPER_CLOSED)
    vla.ros.publish(ArmStatus, "arm_node/status", said, LATCHED)
    vla.ros.wait_until(lambda: vla.client.feedback.gripper == ArmStatus.GRIPPER_CLOSED, "the feedback")
    assert vla.client.feedback.gripper_message == ""
    assert vla.ros.change_state("vla_node", "deactivate") and vla.ros.change_state("vla_node", "activate")  # forget the arm
