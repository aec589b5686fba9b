# SPDX-License-Identifier: Apache-2.0
"""topic: std_msgs/Float64 on gripper_command, latched: gripper.open_position or
gripper.closed_position, whatever these mean to the driver."""

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Float64

from vla_sd_ros.arms.wiring import gripper_position

LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class GripperTopic:
    """See the module's docstring."""

    def __init__(self, node):
        self._node = node
        self._publisher = node.create_publisher(Float64, "gripper_command", LATCHED)

    def send(self, now, opening):
        self._publisher.publish(Float64(data=gripper_position(self._node, opening)))

    def poll(self, now):
        pass

    def problem(self):
        return ""  # latched: who comes later still gets it

    def close(self):
        self._node.destroy_publisher(self._publisher)
