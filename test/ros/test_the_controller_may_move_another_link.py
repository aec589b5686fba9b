# SPDX-License-Identifier: Apache-2.0
"""arm.tip_link: a controller that moves the flange keeps the grip point where it is sent.

A link that is not fixed to it is refused.
"""

import time

import numpy as np
from geometry_msgs.msg import PoseStamped
from panda import NAMES, Arm, command, urdf
from vla_sd_msgs.msg import ArmStatus, EndEffectorCommand

from vla_sd_ros.kinematics.arm import ArmKinematics


class FlangeArm(Arm):
    """An arm whose controller takes targets for the flange, 0.21 m and 45 degrees from the grip point."""

    def __init__(self, ros):
        super().__init__(ros)
        self._kinematics = ArmKinematics(urdf(), "panda_link7", NAMES)


def drive(ros, steps, **delta):
    for step in range(steps):
        ros.publish(EndEffectorCommand, "command", command(step=step, **delta))
        time.sleep(0.2)


def test_the_grip_point_stands_still_and_moves_as_commanded(start, ros):
    arm_node = start("vla_sd_ros.nodes.arm_node", {"autostart": True, "arm.tip_link": "panda_link7"})
    arm, measured = FlangeArm(ros), ros.listen(PoseStamped, "measured_pose")
    statuses = ros.listen(ArmStatus, "arm_node/status")
    arm_node.wait_for_line("is active")
    ros.wait_until(lambda: measured, "a measured pose")
    grip = ArmKinematics(urdf(), "panda_tcp", NAMES)
    before, before_rotation = grip.forward(np.array(arm.q))
    drive(ros, 5)
    np.testing.assert_allclose(grip.forward(np.array(arm.q))[0], before, atol=1e-3)
    drive(ros, 5, goal=2, translation=(0.0, 0.01, 0.0), rotation=(0.0, 0.0, 0.04))
    time.sleep(0.3)
    after, after_rotation = grip.forward(np.array(arm.q))
    np.testing.assert_allclose(after - before, [0.0, 0.05, 0.0], atol=2e-3)
    turn = after_rotation @ before_rotation.T
    assert abs(np.arctan2(turn[1, 0], turn[0, 0]) - 0.2) < 5e-3
    assert not {m.code for _, m in statuses} & set(range(1104, 1117))


def test_a_link_with_a_joint_between_is_refused_with_one_sentence(start, ros):
    arm_node = start("vla_sd_ros.nodes.arm_node", {"autostart": True, "arm.tip_link": "finger"})
    Arm(ros)
    line = arm_node.wait_for_line("cannot use robot_description")
    assert "arm.tip_link cannot be the link that the controller moves: the link 'finger' is not fixed to the tip" in line
