# SPDX-License-Identifier: Apache-2.0
"""gripper_command and parallel_gripper_command: the two standard actions of control_msgs for grippers.

A gripper that closes on an object stalls before its goal: that is no failure. An opening one that stalls has failed.
"""

from sensor_msgs.msg import JointState

from vla_sd_ros.arms import required
from vla_sd_ros.arms.wiring import GripperActions, gripper_position
from vla_sd_ros.control.gripper import Act


class StandardAction(GripperActions):
    """One action for both ways, whose results say the same."""

    def __init__(self, node, kind):
        name = node.values["gripper.action"]
        super().__init__(node, {Act.OPEN: (kind, name), Act.CLOSE: (kind, name)})
        self._goal = kind.Goal

    def failure(self, act, result):
        if result.reached_goal or result.stalled and act == Act.CLOSE:
            return ""
        return "the gripper stalled" if result.stalled else "the gripper neither reached its goal nor stalled on an object"


class GripperCommand(StandardAction):
    """control_msgs/action/GripperCommand: position [m] and largest effort [N]."""

    def __init__(self, node):
        super().__init__(node, required("control_msgs.action", "gripper_command").GripperCommand)

    def goal(self, act):
        goal = self._goal()
        goal.command.position = gripper_position(self._node, float(act))
        goal.command.max_effort = self._node.values["gripper.effort"]
        return goal


class ParallelGripperCommand(StandardAction):
    """control_msgs/action/ParallelGripperCommand, of parallel_gripper_action_controller: position of one joint."""

    def __init__(self, node):
        super().__init__(node, required("control_msgs.action", "parallel_gripper_command").ParallelGripperCommand)

    def goal(self, act):
        values = self._node.values
        state = JointState(
            name=[values["gripper.joint"]],
            position=[gripper_position(self._node, float(act))],
            effort=[values["gripper.effort"]] if values["gripper.effort"] > 0.0 else [],
        )
        return self._goal(command=state)
