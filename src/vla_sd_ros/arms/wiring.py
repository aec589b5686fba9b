# SPDX-License-Identifier: Apache-2.0
"""What several interfaces share: a watch on who is at the other end, goals of a gripper's actions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from action_msgs.msg import GoalStatus, GoalStatusArray
from rclpy.action import ActionClient
from trajectory_msgs.msg import JointTrajectory

from vla_sd_ros.control.gripper import Act, GripperGoals, State
from vla_sd_ros.kinematics.pose import Pose
from vla_sd_ros.messages.qos import LATCHED

GRAPH_PERIOD = 0.5  # s, between two looks at who is there
PATIENCE = 1.0  # s, that the other end may take to appear
HERE = Pose(np.zeros(3), np.eye(3))  # the offset of a link from itself


def gripper_position(node: Any, opening: float) -> float:
    """What the gripper's driver is sent for an opening, 1.0 or 0.0."""
    return node.values["gripper.open_position" if opening > 0.5 else "gripper.closed_position"]


class Listeners:
    """Whether a controller listens to a publisher."""

    def __init__(self, publisher: Any):
        self._publisher = publisher
        self._looked_at: float | None = None
        self._heard_at: float | None = None

    def fault(self, now: float) -> str:
        """One sentence, or nothing; `now` [s] of the steady clock."""
        if self._heard_at is None:
            self._heard_at = now
        if self._looked_at is None or now - self._looked_at > GRAPH_PERIOD:
            self._looked_at = now
            if self._publisher.get_subscription_count():
                self._heard_at = now
        if now - self._heard_at > PATIENCE:
            return f"nobody listens to {self._publisher.topic_name}: start the arm's controller, or correct the topic"
        return ""

    def forget(self) -> None:
        """Begin anew to wait for the other end."""
        self._heard_at = self._looked_at = None


class Rivals:
    """Whether another node commands the robot: a second arm_node, a joystick, a driver's own tool; MoveIt by an action.

    The robot would go to the targets of both by turns, or to none. A node that was killed counts until DDS gives it up.
    """

    def __init__(self, node: Any, publishers: Sequence[Any]):
        """publishers: those of this node to the robot."""
        self._node, self._topics = node, [publisher.topic_name for publisher in publishers]
        self._goals = [FollowedGoals(node, p.topic_name) for p in publishers if p.msg_type is JointTrajectory]
        self._looked_at = float("-inf")
        self._fault = ""

    def fault(self, now: float) -> str:
        """One sentence, or nothing; `now` [s] of the steady clock."""
        if now - self._looked_at > GRAPH_PERIOD:
            self._looked_at = now
            self._fault = next(filter(None, map(self._others, self._topics)), "")
            for goals in self._goals:
                goals.look()
        return self._fault or next((goals.fault for goals in self._goals if goals.fault), "")

    def _others(self, topic: str) -> str:
        others = self._node.count_publishers(topic) - 1
        if others < 1:
            return ""
        return (
            f"{others} other node{'s' if others > 1 else ''} publish{'' if others > 1 else 'es'} on {topic} too: the arm must "
            "have one master"
        )


def servers(node: Any, action: str) -> frozenset[bytes]:
    """Who serves an action. One that was started anew is another; one that was killed counts until DDS gives it up."""
    return frozenset(bytes(server.endpoint_gid) for server in node.get_publishers_info_by_topic(status_topic(action)))


def status_topic(action: str) -> str:
    """Where the servers of an action tell of their goals."""
    return f"{action}/_action/status"


class FollowedGoals:
    """Goals of the action of a joint_trajectory_controller, by which MoveIt drives it. arm_node sends it none."""

    RUNNING = (GoalStatus.STATUS_ACCEPTED, GoalStatus.STATUS_EXECUTING, GoalStatus.STATUS_CANCELING)

    def __init__(self, node: Any, topic: str):
        """topic: of the same controller."""
        self._node, self._action = node, f"{topic.rpartition('/')[0]}/follow_joint_trajectory"
        self._tellers: frozenset[bytes] = frozenset()  # the servers that were there when the newest status came
        self.fault = ""
        """One sentence while a goal runs, or nothing."""
        node.create_subscription(GoalStatusArray, status_topic(self._action), self._on_status, LATCHED)

    def look(self) -> None:
        """Forget the goals of a server that has ended, which tells no end of them."""
        there = servers(self._node, self._action)
        if self._tellers and not self._tellers & there:
            self.fault = ""
        self._tellers = self._tellers or there

    def _on_status(self, message: GoalStatusArray) -> None:
        self._tellers = servers(self._node, self._action)
        running = any(goal.status in self.RUNNING for goal in message.status_list)
        self.fault = f"another node drives the arm by a goal of {self._action}: the arm must have one master" if running else ""


class Unconfirmed:
    """A gripper by a topic, whose driver never says what became of it: sent are changes, and the first of each goal."""

    def __init__(self, node: Any):
        self._node = node
        self._sent: tuple[float, bytes] | None = None

    def publish(self, now: float, opening: float) -> None:
        """Send the driver an opening, 1.0 or 0.0, at time `now` [s, steady]."""
        raise NotImplementedError

    def send(self, now, opening, goal=b""):
        """See Gripper.send: what changes, and everything anew for a new goal."""
        if self._sent != (opening, goal):
            self._sent = opening, goal
            self.publish(now, opening)

    def poll(self, now):
        """Nothing is left for later: the driver confirms nothing."""

    def home(self, now):
        """One sentence: a driver without confirmation has no homing either."""
        return f"the gripper's interface {self._node.values['gripper.interface']} has no homing"

    def state(self):
        """What was sent last; unknown before the first command, and after `rest`."""
        return State.UNKNOWN if self._sent is None else State.OPEN if self._sent[0] > 0.5 else State.CLOSED

    def rest(self):
        """Forget what was sent, so that the next command goes out whatever it is."""
        self._sent = None


class GripperActions:
    """A gripper whose driver offers actions: their clients. control/gripper.py decides what is sent when."""

    def __init__(self, node: Any, actions: Mapping[Act, tuple[type, str]]):
        """actions: type and name of the action for each act that the driver can do. gripper.timeout [s]: for a result."""
        self._node = node
        clients: dict[str, ActionClient] = {name: ActionClient(node, kind, name) for kind, name in dict.fromkeys(actions.values())}
        self._clients = {act: clients[name] for act, (_, name) in actions.items()}
        self._names = {act: node.resolve_topic_name(name) for act, (_, name) in actions.items()}
        self._number, self._handle, self._unwanted = 0, None, False  # of the newest goal
        self._goals = GripperGoals(self)

    def goal(self, act: Act) -> Any:
        """The message of a goal."""
        raise NotImplementedError

    def failure(self, act: Act, result: Any) -> str:
        """One sentence about a result that is not what was asked for; empty where it is."""
        raise NotImplementedError

    # What arms.Gripper says.

    def send(self, now, opening, goal=b""):
        self._goals.want(now, opening, self._node.values["gripper.timeout"])

    def poll(self, now):
        self._goals.poll(now, self._node.values["gripper.timeout"])

    def home(self, now):
        if Act.HOME not in self._clients:
            return f"the gripper's interface {self._node.values['gripper.interface']} has no homing"
        if missing := self.missing(Act.HOME):
            return missing
        self._goals.home(now, self._node.values["gripper.timeout"])
        return ""

    def state(self):
        return self._goals.state

    def problem(self):
        return self._goals.problem

    def rest(self):
        self._goals.rest()

    def close(self):
        for client in set(self._clients.values()):
            client.destroy()

    # What control.gripper.Driver says.

    def missing(self, act):
        if self._clients[act].server_is_ready():
            return ""
        return f"nobody offers the action {self._names[act]}: start the gripper's driver, or correct gripper.action"

    def servers(self, act):
        return servers(self._node, self._names[act])

    def begin(self, act, number):
        self._number, self._handle, self._unwanted = number, None, False
        future = self._clients[act].send_goal_async(self.goal(act))
        future.add_done_callback(lambda answer: self._answered(act, number, answer.result()))

    def cancel(self):
        self._unwanted = True
        if self._handle is not None:
            self._handle.cancel_goal_async()

    def _answered(self, act: Act, number: int, handle: Any) -> None:
        if not handle.accepted:
            self._goals.ended(number, f"{self._names[act]} refused a goal")
            return
        if number != self._number or self._unwanted:  # its end was asked for, or given up, while it was on its way
            handle.cancel_goal_async()
        if number == self._number:
            self._handle = handle
        handle.get_result_async().add_done_callback(lambda done: self._ended(act, number, done.result()))

    def _ended(self, act: Act, number: int, answer: Any) -> None:
        if answer.status == GoalStatus.STATUS_CANCELED:  # whatever its result says: the driver has stopped the fingers
            said = "its goal was cancelled"
        else:
            said = self.failure(act, answer.result)
        self._goals.ended(number, f"{self._names[act]} says: {said}" if said else "")
