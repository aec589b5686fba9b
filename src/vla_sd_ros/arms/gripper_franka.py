# SPDX-License-Identifier: Apache-2.0
"""franka: franka_gripper's own actions, move to open and grasp to close, in metres between the fingers.

A grasp holds with gripper.effort; its tolerance is the whole way, because the policy does not tell how wide the object is.
The hand refuses to open beyond the width that its homing has measured, and this width is published nowhere: what is refused
is tried again a little narrower. Before its homing the hand refuses every width.
"""

from vla_sd_ros.arms import required
from vla_sd_ros.arms.wiring import GripperActions
from vla_sd_ros.control.gripper import Act, GripperGoals

NARROWER = 0.001  # m, for each refusal; the next round of attempts begins with gripper.open_position again


class FrankaGripper(GripperActions):
    """See the module's docstring. gripper.action is the prefix of the actions."""

    def __init__(self, node):
        actions, prefix = required("franka_msgs.action", "franka"), node.values["gripper.action"]
        super().__init__(
            node,
            {
                Act.OPEN: (actions.Move, f"{prefix}/move"),
                Act.CLOSE: (actions.Grasp, f"{prefix}/grasp"),
                Act.HOME: (actions.Homing, f"{prefix}/homing"),
            },
        )
        self._actions, self._refused = actions, 0

    def goal(self, act):
        values = self._node.values
        if act == Act.HOME:
            self._refused = 0
            return self._actions.Homing.Goal()
        if act == Act.OPEN:
            return self._actions.Move.Goal(width=self._width, speed=values["gripper.speed"])
        goal = self._actions.Grasp.Goal(
            width=values["gripper.closed_position"], speed=values["gripper.speed"], force=values["gripper.effort"]
        )
        goal.epsilon.inner = goal.epsilon.outer = values["gripper.open_position"]
        return goal

    @property
    def _width(self) -> float:
        return max(0.0, self._node.values["gripper.open_position"] - NARROWER * self._refused)

    def failure(self, act, result):
        if result.success:
            return ""
        said = result.error or "it did not succeed"
        if act == Act.HOME:
            return said
        if act == Act.OPEN:
            said = f"{said} (to {self._width:.3f} m)"
            self._refused = (self._refused + 1) % GripperGoals.ATTEMPTS
        return f"{said}; a hand that was not homed since its start refuses every width: call ~/home_gripper"
