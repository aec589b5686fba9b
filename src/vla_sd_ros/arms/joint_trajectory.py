# SPDX-License-Identifier: Apache-2.0
"""joint_trajectory: trajectory_msgs/JointTrajectory with two points, for joint_trajectory_controller of ros2_control.

Each message replaces the trajectory that runs. Of a single point the controller would go there from the MEASURED state,
unless its parameter interpolate_from_desired_state says otherwise: with a message every 10 ms a joint that sags under its
load would never be pushed back. So the first point, at time 0, is where the controller has been told to be by now, and the
second, after joint_trajectory.time_from_start, the target: the controller is late by that time, and as long as it lasts
no late message stops the motion.
"""

import numpy as np
from rclpy.duration import Duration
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from vla_sd_ros.arms.wiring import HERE, Listeners
from vla_sd_ros.messages.qos import NEWEST


class JointTrajectoryTopic:
    """See the module's docstring."""

    offset = HERE

    def __init__(self, node):
        self._node, self._names = node, node.values["joint_names"]
        self._time = node.values["joint_trajectory.time_from_start"]
        self._publisher = node.create_publisher(JointTrajectory, "joint_trajectory", NEWEST)
        self._listeners = Listeners(self._publisher)
        self._sent: tuple[float, np.ndarray, np.ndarray] | None = None  # when, and the two points of the last message

    def send(self, now, target, measured, joints):
        start = joints if self._sent is None else self._reference(now, *self._sent)
        self._sent = now, start, joints
        # No stamp: now, by the controller's own clock. No velocity: the controller rejects an end that is not at rest.
        points = [
            JointTrajectoryPoint(positions=at.tolist(), time_from_start=Duration(seconds=time).to_msg())
            for time, at in ((0.0, start), (self._time, joints))
        ]
        self._publisher.publish(JointTrajectory(joint_names=self._names, points=points))

    def fault(self, now):
        return self._listeners.fault(now)

    def leave(self, measured):
        pass  # an inactive controller forgets what it is sent

    def rest(self):
        self._listeners.forget()
        self._sent = None

    def close(self):
        self._node.destroy_publisher(self._publisher)

    def _reference(self, now: float, at: float, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Where the controller is on its way (n,) [rad] at this time [s], by a message sent `at` another."""
        return start + min(max(now - at, 0.0) / self._time, 1.0) * (end - start)
