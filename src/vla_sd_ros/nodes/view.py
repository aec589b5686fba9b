# SPDX-License-Identifier: Apache-2.0
"""What viewers such as Foxglove and RViz show of arm_node, whatever the robot's side takes: commanded pose, measured path."""

from collections import deque
from typing import Any

from geometry_msgs.msg import PoseArray, PoseStamped

from vla_sd_ros.kinematics.pose import Pose
from vla_sd_ros.messages.poses import stamped

PATH_PERIOD = 0.2  # s, from one pose of the path to the next
PATH_LENGTH = 150  # poses: the last half minute


class View:
    """Publishes commanded_pose (PoseStamped) and measured_path (PoseArray, 1 Hz). While nobody listens, nothing is made."""

    def __init__(self, node: Any):
        self._node = node
        self._commanded = node.create_publisher(PoseStamped, "commanded_pose", 1)
        self._path = node.create_publisher(PoseArray, "measured_path", 1)
        self._trail: deque = deque(maxlen=PATH_LENGTH)
        self._kept_at = self._sent_at = float("-inf")

    def update(self, now: float, commanded: Pose | None, measured: PoseStamped) -> None:
        """Called with each measured pose, at the steady time `now` [s]; `commanded`: None before the first command."""
        if commanded is not None and self._commanded.get_subscription_count():
            stamp = self._node.get_clock().now().to_msg()
            self._commanded.publish(stamped(commanded, measured.header.frame_id, stamp))
        if now - self._kept_at >= PATH_PERIOD:
            self._kept_at = now
            self._trail.append(measured.pose)
        if now - self._sent_at >= 1.0 and self._path.get_subscription_count():
            self._sent_at = now
            self._path.publish(PoseArray(header=measured.header, poses=list(self._trail)))
