# SPDX-License-Identifier: Apache-2.0
"""What several interfaces share: messages from poses, a watch on who is at the other end, the newest goal of an action."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pinocchio as pin
from geometry_msgs.msg import PoseStamped
from rclpy.action import ActionClient
from rclpy.clock import Clock
from rclpy.duration import Duration
from rclpy.qos import QoSProfile, ReliabilityPolicy

from vla_sd_ros.control.pose import Pose

NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
GRAPH_PERIOD = 0.5  # s, between two looks at who is there
PATIENCE = 1.0  # s, that the other end may take to appear
HERE = Pose(np.zeros(3), np.eye(3))  # the offset of a link from itself


def stamp_of(clock: Clock, moment: float) -> Any:
    """ROS time, as a message, of a moment of time.monotonic() [s] just now: what was computed for it may have taken its time.

    Simulated time does not go on meanwhile: there it is the present one.
    """
    late = 0.0 if clock.ros_time_is_active else time.monotonic() - moment
    return (clock.now() - Duration(seconds=late)).to_msg()


def stamped(pose: Pose, frame: str, stamp: Any) -> PoseStamped:
    """A pose as a message."""
    message = PoseStamped()
    message.header.stamp = stamp
    message.header.frame_id = frame
    p, o = message.pose.position, message.pose.orientation
    # Not pin.Quaternion(rotation): eigenpy never frees the matrix that it makes of the array, 80 bytes each time.
    p.x, p.y, p.z, o.x, o.y, o.z, o.w = pin.SE3ToXYZQUAT(pin.SE3(pose.rotation, pose.position)).tolist()
    return message


def gripper_position(node: Any, opening: float) -> float:
    """What the gripper's driver is sent for an opening, 1.0 or 0.0."""
    return node.values["gripper.open_position" if opening > 0.5 else "gripper.closed_position"]


class Listeners:
    """Whether a controller listens to a publisher, and whether a second publisher spoils it."""

    def __init__(self, node: Any, publisher: Any, alone: bool = False):
        """alone: the controller takes targets from a single publisher only."""
        self._node, self._publisher, self._alone = node, publisher, alone
        self._looked_at = self._heard_at = None
        self._others = 0

    def fault(self, now: float) -> str:
        """One sentence, or nothing; `now` [s] of the steady clock."""
        if self._heard_at is None:
            self._heard_at = now
        if self._looked_at is None or now - self._looked_at > GRAPH_PERIOD:
            self._looked_at = now
            if self._publisher.get_subscription_count():
                self._heard_at = now
            self._others = self._node.count_publishers(self._publisher.topic_name) - 1 if self._alone else 0
        if now - self._heard_at > PATIENCE:
            return f"nobody listens to {self._publisher.topic_name}: start the arm's controller, or correct the topic"
        if self._others > 0:
            return (f"{self._others} other node{'s' if self._others > 1 else ''} publish{'' if self._others > 1 else 'es'} "
                    f"on {self._publisher.topic_name} too: the arm must have one master")
        return ""

    def forget(self) -> None:
        """Begin anew to wait for the other end."""
        self._heard_at = self._looked_at = None


class NewestGoal:
    """Goals of one action, of which only the newest counts. A server that is late, refuses, or never answers costs nothing.

    A goal that still runs is cancelled before the next is sent, because drivers of grippers run goals side by side.
    """

    def __init__(self, node: Any, kind: type, name: str, failed: Callable[[Any], str]):
        """failed: the sentence about a result, empty where it is good. gripper.timeout [s]: for a result."""
        self._client = ActionClient(node, kind, name)
        self.name, self._node, self._failed = node.resolve_topic_name(name), node, failed
        self._goal = self._handle = None  # the goal that counts, and its handle once it is accepted
        self._sent_at: float | None = None
        self.problem = ""

    def send(self, now: float, goal: Any) -> None:
        self.cancel()
        self._goal = goal
        self.poll(now)

    def cancel(self) -> None:
        """Whatever runs is no longer wanted."""
        if self._handle is not None:
            self._handle.cancel_goal_async()
        self._goal = self._handle = self._sent_at = None
        self.problem = ""

    def poll(self, now: float) -> None:
        """Send what could not be sent yet; give up what takes too long."""
        if self._goal is None:
            return
        if self._sent_at is None:
            if not self._client.server_is_ready():
                self.problem = f"nobody offers the action {self.name}: start the gripper's driver, or correct gripper.action"
                return
            self._sent_at, self.problem, goal = now, "", self._goal
            self._client.send_goal_async(goal).add_done_callback(lambda future: self._answered(goal, future))
        elif now - self._sent_at > self._node.values["gripper.timeout"]:
            self.cancel()
            self.problem = f"{self.name} did not return within gripper.timeout and was given up"

    def close(self) -> None:
        self._goal = self._handle = self._sent_at = None
        self._client.destroy()

    def _answered(self, goal: Any, future: Any) -> None:
        handle = future.result()
        if goal is not self._goal:  # overtaken while it was on its way
            if handle.accepted:
                handle.cancel_goal_async()
        elif not handle.accepted:
            self._goal, self.problem = None, f"{self.name} refused a goal"
        else:
            self._handle = handle
            handle.get_result_async().add_done_callback(lambda done: self._ended(goal, done))

    def _ended(self, goal: Any, future: Any) -> None:
        if goal is self._goal:
            self._goal = self._handle = self._sent_at = None
            said = self._failed(future.result().result)
            self.problem = f"{self.name} says: {said}" if said else ""
