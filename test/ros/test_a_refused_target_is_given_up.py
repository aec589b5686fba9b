# SPDX-License-Identifier: Apache-2.0
"""When the robot's side takes targets again, the one that it refused is not sent on: the arm may have been moved meanwhile."""

import time

import numpy as np
from geometry_msgs.msg import PoseStamped
from panda import command
from vla_sd_msgs.msg import ArmStatus, EndEffectorCommand


def drive(ros, goal, first=0, steps=3):
    for step in range(first, first + steps):
        ros.publish(EndEffectorCommand, "command", command(goal=goal, step=step, translation=(0.0, 0.02, 0.0)))
        time.sleep(0.2)


def test_after_a_second_publisher_the_next_goal_starts_from_where_the_arm_is(arm_node, ros):
    drive(ros, goal=1)
    other = ros.node.create_publisher(PoseStamped, "target_pose", 1)
    for step in range(3, 13):
        if arm_node.statuses[-1][1].code == ArmStatus.ROBOT_FAULT:
            break
        drive(ros, goal=1, first=step, steps=1)
    assert arm_node.statuses[-1][1].code == ArmStatus.ROBOT_FAULT
    time.sleep(0.5)
    arm_node.arm.stuck = True
    arm_node.arm.q[0] += 0.02  # less than what shows by itself that somebody moved the arm
    ros.node.destroy_publisher(other)
    ros.wait_until(lambda: arm_node.statuses[-1][1].code == ArmStatus.NO_COMMAND, "the end of the fault")
    assert "its target was given up" in arm_node.statuses[-1][1].message
    arm_node.arm.stuck, there = False, np.array(arm_node.arm.q)
    sent = len(arm_node.targets)
    time.sleep(0.5)
    assert len(arm_node.targets) == sent, "the refused target was sent on"
    np.testing.assert_allclose(arm_node.arm.q, there)
    drive(ros, goal=2)
    assert arm_node.statuses[-1][1].code == ArmStatus.OK and len(arm_node.targets) > sent
