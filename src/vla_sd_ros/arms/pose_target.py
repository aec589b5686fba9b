# SPDX-License-Identifier: Apache-2.0
"""pose_target: geometry_msgs/PoseStamped on target_pose, in the base frame, at the rate of arm_node.

For crisp_controllers (`target_pose`) and FZI's cartesian_controllers (`<name>/target_frame`), and for sim_node. Both hold
their last target on silence; crisp ignores every target while there is more than one publisher.
"""

from geometry_msgs.msg import PoseStamped

from vla_sd_ros.arms.wiring import NEWEST, Listeners, stamp_of, stamped


class PoseTarget:
    """See the module's docstring."""

    def __init__(self, node):
        self._node, self._frame = node, node.values["base_frame"]
        self._publisher = node.create_publisher(PoseStamped, "target_pose", NEWEST)
        self._listeners = Listeners(self._publisher)
        self._fault = ""

    def send(self, now, target, measured, joints):
        self._publisher.publish(stamped(target, self._frame, stamp_of(self._node.get_clock(), now)))
        self._fault = self._listeners.fault(now)

    def fault(self):
        return self._fault

    def rest(self):
        self._fault = ""
        self._listeners.forget()

    def close(self):
        self._node.destroy_publisher(self._publisher)
