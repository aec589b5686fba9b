# SPDX-License-Identifier: Apache-2.0
"""joint_trajectory: trajectory_msgs/JointTrajectory with one point, for joint_trajectory_controller of ros2_control.

Each message replaces the trajectory that runs. The controller goes from where it is to the point within
joint_trajectory.time_from_start, so that it is late by about that time and smooths out the jitter of the messages.
"""

from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint
from rclpy.duration import Duration

from vla_sd_ros.arms.wiring import NEWEST, Listeners


class JointTrajectoryTopic:
    """See the module's docstring."""

    def __init__(self, node):
        self._node, self._names = node, node.values["joint_names"]
        self._time = Duration(seconds=node.values["joint_trajectory.time_from_start"]).to_msg()
        self._publisher = node.create_publisher(JointTrajectory, "joint_trajectory", NEWEST)
        self._listeners = Listeners(self._publisher)
        self._unheard = ""

    def send(self, now, target, measured, joints):
        self._unheard = self._listeners.fault(now)
        # No stamp: now, by the controller's own clock. No velocity: the controller rejects an end that is not at rest.
        point = JointTrajectoryPoint(positions=joints.tolist(), time_from_start=self._time)
        self._publisher.publish(JointTrajectory(joint_names=self._names, points=[point]))

    def fault(self):
        return self._unheard

    def rest(self):
        self._listeners.forget()
        self._unheard = ""

    def close(self):
        self._node.destroy_publisher(self._publisher)
