# SPDX-License-Identifier: Apache-2.0
"""pose_target: geometry_msgs/PoseStamped on target_pose, in the base frame, at the rate of arm_node.

For crisp_controllers (`target_pose`) and FZI's cartesian_controllers (`<name>/target_frame`), and for sim_node. Both hold
their last target on silence; crisp ignores every target while there is more than one publisher, and keeps the last target
that came while it was inactive: it goes there when it is activated. A driver that says on `robot_fault` why it takes no
targets (std_msgs/String, latched; empty: it takes them) is heard: those of arms by pip do.
"""

from geometry_msgs.msg import PoseStamped
from std_msgs.msg import String

from vla_sd_ros.arms.wiring import HERE, Listeners
from vla_sd_ros.messages.poses import stamp_of, stamped
from vla_sd_ros.messages.qos import LATCHED, NEWEST


class PoseTarget:
    """See the module's docstring."""

    def __init__(self, node):
        self.offset = HERE
        self._node, self._frame = node, node.values["base_frame"]
        self._publisher = node.create_publisher(PoseStamped, "target_pose", NEWEST)
        self._listeners, self._told = Listeners(self._publisher), ""
        self._driver = node.create_subscription(String, "robot_fault", self._on_fault, LATCHED)

    def _on_fault(self, message):
        self._told = message.data

    def send(self, now, target, measured, joints):
        stamp = stamp_of(self._node.get_clock(), now)
        self._publisher.publish(stamped(target.attached(self.offset), self._frame, stamp))

    def fault(self, now):
        return self._listeners.fault(now) or self._told

    def leave(self, measured):
        stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(stamped(measured.attached(self.offset), self._frame, stamp))

    def rest(self):
        self._listeners.forget()

    def close(self):
        self._node.destroy_subscription(self._driver)
        self._node.destroy_publisher(self._publisher)
