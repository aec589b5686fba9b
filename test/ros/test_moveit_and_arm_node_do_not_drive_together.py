# SPDX-License-Identifier: Apache-2.0
"""A goal of the controller's action, as MoveIt sends it: arm_node brings the arm to rest, says why and sends nothing, until a
goal begins after that one has ended.
"""

import time

from panda import NAMES, Arm, command
from rclpy.action import ActionClient, ActionServer
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.task import Future
from trajectory_msgs.msg import JointTrajectory
from vla_sd_msgs.action import ExecuteInstruction
from vla_sd_msgs.msg import ArmStatus, EndEffectorCommand

ACTION = "follow_joint_trajectory"


class TrajectoryArm(Arm):
    """Behind a joint_trajectory_controller with its topic and its action, whose goals end when `over` does.

    What the action is about does not matter to arm_node, and control_msgs has no wheels.
    """

    def __init__(self, ros):
        super().__init__(ros)
        self.received, self.over = [], Future()
        ros.node.create_subscription(JointTrajectory, "joint_trajectory", self._take, 10)
        kind, group = ExecuteInstruction, ReentrantCallbackGroup()
        self.server = ActionServer(ros.node, kind, ACTION, self._follow, callback_group=group)
        self.moveit = ActionClient(ros.node, kind, ACTION, callback_group=group)

    def _take(self, message):
        assert message.joint_names == NAMES
        self.received.append(time.monotonic())
        self.q = list(message.points[-1].positions)

    async def _follow(self, handle):
        await self.over
        handle.succeed()
        return ExecuteInstruction.Result()


def drive(ros, steps, goal):
    for step in steps:
        ros.publish(EndEffectorCommand, "command", command(goal=goal, step=step, translation=(0.0, 0.01, 0.0)))
        time.sleep(0.2)


def test_a_goal_of_the_action_is_another_master(start, ros):
    arm_node = start("vla_sd_ros.nodes.arm_node", {"autostart": True, "arm.interface": "joint_trajectory"})
    arm, statuses = TrajectoryArm(ros), ros.listen(ArmStatus, "arm_node/status")
    arm_node.wait_for_line("is active")
    ros.wait_until(lambda: statuses and statuses[-1][1].code == ArmStatus.NO_COMMAND, "an arm_node that is ready")
    drive(ros, range(4), goal=1)
    assert statuses[-1][1].state == ArmStatus.MOVING and arm.received
    assert arm.moveit.wait_for_server(5.0)
    begin, _ = time.monotonic(), arm.moveit.send_goal_async(ExecuteInstruction.Goal())
    drive(ros, range(4, 9), goal=1)
    assert statuses[-1][1].code == ArmStatus.ROBOT_FAULT and f"/vla/{ACTION}" in statuses[-1][1].message
    assert arm.received[-1] - begin < 0.5
    arm.over.set_result(None)
    ros.wait_until(lambda: statuses[-1][1].code != ArmStatus.ROBOT_FAULT, "the end of the fault", 2.0)
    silent = len(arm.received)
    drive(ros, range(4), goal=2)
    assert statuses[-1][1].state == ArmStatus.MOVING and len(arm.received) > silent
    arm.server.destroy()
