# SPDX-License-Identifier: Apache-2.0
"""gripper_command and parallel_gripper_command: the two standard actions of control_msgs for grippers.

A gripper that closes on an object stalls before its goal: that is no failure. Franka's gripper_action takes HALF the width.
"""

from sensor_msgs.msg import JointState

from vla_sd_ros.arms import required
from vla_sd_ros.arms.wiring import NewestGoal, gripper_position


class GripperCommand:
    """control_msgs/action/GripperCommand: position [m] and largest effort [N]."""

    def __init__(self, node):
        actions = required("control_msgs.action", "gripper_command")
        self._node, self._goal = node, actions.GripperCommand.Goal
        self._goals = NewestGoal(node, actions.GripperCommand, node.values["gripper.action"], _failed)
        self.poll, self.close = self._goals.poll, self._goals.close

    def send(self, now, opening):
        goal = self._goal()
        goal.command.position = gripper_position(self._node, opening)
        goal.command.max_effort = self._node.values["gripper.effort"]
        self._goals.send(now, goal)

    def problem(self):
        return self._goals.problem


class ParallelGripperCommand:
    """control_msgs/action/ParallelGripperCommand, of parallel_gripper_action_controller: position of one joint."""

    def __init__(self, node):
        action = required("control_msgs.action", "parallel_gripper_command").ParallelGripperCommand
        self._node, self._goal = node, action.Goal
        self._goals = NewestGoal(node, action, node.values["gripper.action"], _failed)
        self.poll, self.close = self._goals.poll, self._goals.close

    def send(self, now, opening):
        values = self._node.values
        state = JointState(name=[values["gripper.joint"]], position=[gripper_position(self._node, opening)],
                           effort=[values["gripper.effort"]] if values["gripper.effort"] > 0.0 else [])
        self._goals.send(now, self._goal(command=state))

    def problem(self):
        return self._goals.problem


def _failed(result) -> str:
    return "" if result.reached_goal or result.stalled else "the gripper neither reached its goal nor stalled on an object"
