# SPDX-License-Identifier: Apache-2.0
"""interbotix_joint_group and interbotix_joint_single: Interbotix X-series arms, such as the WidowX 250 S, by xs_sdk.

The arm takes interbotix_xs_msgs/JointGroupCommand on commands/joint_group: positions [rad] in the order of the group. The
motors go to each in the time of their profile, 2 s unless the driver is started with other modes: see
config/widowx_modes.yaml. The gripper takes JointSingleCommand on commands/joint_single, whose meaning is that of its
operating mode: PWM of the motor, or metres in linear_position.
"""

from vla_sd_ros.arms import required
from vla_sd_ros.arms.wiring import HERE, NEWEST, Listeners, gripper_position


class JointGroup:
    """The arm, at interbotix.rate: each message starts the profiles of all motors anew."""

    offset = HERE

    def __init__(self, node):
        self._type = required("interbotix_xs_msgs.msg", "interbotix_joint_group").JointGroupCommand
        self._node, self._group = node, node.values["interbotix.group"]
        self._period = 1.0 / node.values["interbotix.rate"]
        self._publisher = node.create_publisher(self._type, "commands/joint_group", NEWEST)
        self._listeners = Listeners(node, self._publisher)
        self._due: float | None = None

    def send(self, now, target, measured, joints):
        if self._due is not None and now < self._due:
            return
        self._due = max(now, (now if self._due is None else self._due) + self._period)
        self._publisher.publish(self._type(name=self._group, cmd=joints.tolist()))

    def fault(self, now):
        return self._listeners.fault(now)

    def leave(self, measured):
        pass

    def rest(self):
        self._listeners.forget()
        self._due = None

    def close(self):
        self._node.destroy_publisher(self._publisher)


class JointSingle:
    """The gripper."""

    def __init__(self, node):
        self._type = required("interbotix_xs_msgs.msg", "interbotix_joint_single").JointSingleCommand
        self._node = node
        self._publisher = node.create_publisher(self._type, "commands/joint_single", NEWEST)

    def send(self, now, opening):
        name = self._node.values["gripper.joint"]
        self._publisher.publish(self._type(name=name, cmd=gripper_position(self._node, opening)))

    def poll(self, now):
        pass

    def problem(self):
        return "" if self._publisher.get_subscription_count() else f"nobody listens to {self._publisher.topic_name}"

    def close(self):
        self._node.destroy_publisher(self._publisher)
