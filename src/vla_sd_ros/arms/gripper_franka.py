# SPDX-License-Identifier: Apache-2.0
"""franka: franka_gripper's own actions, move to open and grasp to close, in metres between the fingers.

A grasp holds with gripper.effort; its tolerance is the whole way, because the policy does not tell how wide the object is.
"""

from vla_sd_ros.arms import required
from vla_sd_ros.arms.wiring import NewestGoal


class FrankaGripper:
    """See the module's docstring. gripper.action is the prefix of both actions."""

    def __init__(self, node):
        self._node = node
        self._actions = required("franka_msgs.action", "franka")
        prefix = node.values["gripper.action"]
        self._move = NewestGoal(node, self._actions.Move, f"{prefix}/move", _failed)
        self._grasp = NewestGoal(node, self._actions.Grasp, f"{prefix}/grasp", _failed)

    def send(self, now, opening):
        values = self._node.values
        if opening > 0.5:
            self._grasp.cancel()
            goal = self._actions.Move.Goal(width=values["gripper.open_position"], speed=values["gripper.speed"])
            self._move.send(now, goal)
            return
        self._move.cancel()
        goal = self._actions.Grasp.Goal(width=values["gripper.closed_position"], speed=values["gripper.speed"],
                                        force=values["gripper.effort"])
        goal.epsilon.inner = goal.epsilon.outer = values["gripper.open_position"]
        self._grasp.send(now, goal)

    def poll(self, now):
        self._move.poll(now)
        self._grasp.poll(now)

    def problem(self):
        return self._move.problem or self._grasp.problem

    def close(self):
        self._move.close()
        self._grasp.close()


def _failed(result) -> str:
    return "" if result.success else result.error or "it did not succeed"
