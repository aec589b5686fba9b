# SPDX-License-Identifier: Apache-2.0
"""A controller that moves another link than arm_node is told: zero commands move the arm as far as the two are apart, at most and
once, and end the goal; MoveIt Servo, which halts in time, 3 cm. The next goal moves nothing.
"""

import time

import numpy as np
import pytest
import standins
from geometry_msgs.msg import PoseStamped
from panda import NAMES, Arm, command, urdf
from vla_sd_msgs.msg import ArmStatus, EndEffectorCommand

from vla_sd_ros.kinematics.arm import ArmKinematics

BETWEEN = 0.2104  # m, from panda_link7 to the grip point
BEND = 1.1  # the joints take their ways side by side, so the tip's is no straight line


class FlangeArm(Arm):
    """Its controller takes targets for panda_link7, and goes on to the last one, no joint faster than 1 rad/s."""

    def __init__(self, ros):
        super().__init__(ros)
        self._kinematics, self._wanted = ArmKinematics(urdf(), "panda_link7", NAMES), np.array(self.q)

    def _go(self, message):
        here = self.q
        super()._go(message)
        self.q, self._wanted = here, np.array(self.q)

    def _publish(self):
        self.q = (self.q + np.clip(self._wanted - self.q, -0.01, 0.01)).tolist()
        super()._publish()


class ServoArm(FlangeArm):
    """The same behind MoveIt Servo, which halts at a pose that is too old."""

    def __init__(self, ros):
        from moveit_msgs.msg import ServoStatus
        from moveit_msgs.srv import ServoCommandType

        status = ros.node.create_publisher(ServoStatus, "servo_node/status", 10)
        ros.node.create_service(ServoCommandType, "servo_node/switch_command_type", self._switch)
        ros.node.create_subscription(PoseStamped, "servo_node/pose_target_cmds", self._go, 1)
        ros.node.create_timer(0.02, lambda: status.publish(ServoStatus()))
        super().__init__(ros)

    def _switch(self, request, response):
        response.success = True
        return response

    def _go(self, message):
        if message.header.stamp.sec:
            super()._go(message)
        else:
            self._wanted = np.array(self.q)


def place(message):
    p = message.pose.position
    return np.array([p.x, p.y, p.z])


def assert_moved_once(ros, farthest):
    """Ten zero commands and the next goal; farthest [m]: bounds of the way, and of where it ends."""
    measured, statuses = ros.listen(PoseStamped, "measured_pose"), ros.listen(ArmStatus, "arm_node/status")
    ros.wait_until(lambda: measured and statuses and statuses[-1][1].code == ArmStatus.NO_COMMAND, "a measured pose")
    drive(ros, 10)
    moved = np.linalg.norm([place(m) - place(measured[0][1]) for _, m in list(measured)], axis=1)
    assert statuses[-1][1].code == ArmStatus.ARM_RUNS_AWAY, statuses[-1][1].message
    assert moved.max() < BEND * farthest and moved[-1] < farthest
    at, there = len(measured), place(measured[-1][1])
    drive(ros, 5, goal=2, translation=(0.02, 0.0, 0.0))
    assert statuses[-1][1].code == ArmStatus.ARM_RUNS_AWAY
    np.testing.assert_allclose([place(m) for _, m in measured[at:]], [there] * (len(measured) - at), atol=1e-3)


def drive(ros, steps, **fields):
    for step in range(steps):
        ros.publish(EndEffectorCommand, "command", command(step=step, **fields))
        time.sleep(0.2)


@pytest.mark.parametrize(
    "arm, parameters, farthest",
    [(FlangeArm, {}, BETWEEN + 0.005), (ServoArm, {"arm.interface": "servo_pose", "arm.tip_link": "panda_tcp"}, 0.03)],
    ids=["a controller that goes on", "MoveIt Servo"],
)
def test_the_controller_moves_the_flange(start, ros, arm, parameters, farthest):
    standins.use()
    start("vla_sd_ros.nodes.arm_node", {"autostart": True} | parameters).wait_for_line("is active")
    arm(ros)
    assert_moved_once(ros, farthest)


@pytest.mark.parametrize("tip, apart", [("panda_hand", 0.1034), ("panda_link7", BETWEEN)])
def test_arm_node_has_the_wrong_tip_of_the_simulated_arm(start, ros, tip, apart):
    start("vla_sd_ros.nodes.sim_arm_node", {"robot": "franka", "prefix": "panda", "camera_rate": 0.5, "image_size": 64})
    start("vla_sd_ros.nodes.arm_node", {"autostart": True, "tip_link": tip}).wait_for_line("is active")
    assert_moved_once(ros, apart + 0.005)
