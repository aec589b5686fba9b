# SPDX-License-Identifier: Apache-2.0
"""topic: std_msgs/Float64 on gripper_command, latched: gripper.open_position or
gripper.closed_position, whatever these mean to the driver."""

from std_msgs.msg import Float64

from vla_sd_ros.arms.wiring import Unconfirmed, gripper_position
from vla_sd_ros.messages.qos import LATCHED


class GripperTopic(Unconfirmed):
    """See the module's docstring."""

    def __init__(self, node):
        super().__init__(node)
        self._publisher = node.create_publisher(Float64, "gripper_command", LATCHED)

    def publish(self, now, opening):
        self._publisher.publish(Float64(data=gripper_position(self._node, opening)))

    def problem(self):
        return ""  # latched: who comes later still gets it

    def close(self):
        self._node.destroy_publisher(self._publisher)
