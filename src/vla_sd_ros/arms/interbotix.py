# SPDX-License-Identifier: Apache-2.0
"""interbotix_joint_group and interbotix_joint_single: Interbotix X-series arms, such as the WidowX 250 S, by xs_sdk.

The arm takes interbotix_xs_msgs/JointGroupCommand on commands/joint_group: positions [rad] in the order of the group. The
motors go to each in the time of their profile, 2 s unless the driver is started with other modes: see
config/widowx_modes.yaml. The gripper takes JointSingleCommand on commands/joint_single, whose meaning is that of its
operating mode: PWM or current of the motor, or metres in linear_position.
"""

import contextlib
from xml.etree import ElementTree

from sensor_msgs.msg import JointState
from std_msgs.msg import String

from vla_sd_ros.arms import required
from vla_sd_ros.arms.wiring import HERE, Listeners, Unconfirmed, gripper_position
from vla_sd_ros.messages.qos import LATCHED, NEWEST, SENSOR

END = 0.001  # m, from the limit of the fingers, where they are at the end of their way
OPENED = 2.0  # s, after which an opening gripper is open: nothing is worth pushing against


class JointGroup:
    """The arm, at interbotix.rate: each message starts the profiles of all motors anew."""

    offset = HERE

    def __init__(self, node):
        self._type = required("interbotix_xs_msgs.msg", "interbotix_joint_group").JointGroupCommand
        self._node, self._group = node, node.values["interbotix.group"]
        self._period = 1.0 / node.values["interbotix.rate"]
        self._publisher = node.create_publisher(self._type, "commands/joint_group", NEWEST)
        self._listeners = Listeners(self._publisher)
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


class JointSingle(Unconfirmed):
    """The gripper.

    In a mode of effort (PWM, current) the motor pushes until it is told otherwise: here, as by Interbotix's own driver, when
    the fingers are at the end of their way and nothing is between them. gripper.finger is the joint that shows it; without
    one the commands are positions, which end by themselves.
    """

    def __init__(self, node):
        super().__init__(node)
        self._type = required("interbotix_xs_msgs.msg", "interbotix_joint_single").JointSingleCommand
        self._publisher = node.create_publisher(self._type, "commands/joint_single", NEWEST)
        self._pushing_since: float | None = None  # None: no effort is on
        self._finger: float | None = None  # m, measured
        self._range: tuple[float, float] | None = None  # m, of the finger
        self._inputs = []
        if node.values["gripper.finger"]:
            self._inputs = [node.create_subscription(JointState, "joint_states", self._on_joint_states, SENSOR),
                            node.create_subscription(String, "robot_description", self._on_description, LATCHED)]

    def send(self, now, opening, goal=b""):
        if not self._publisher.get_subscription_count():
            self._sent = None  # a driver that comes back has no effort on
        super().send(now, opening, goal)

    def publish(self, now, opening):
        self._command(gripper_position(self._node, opening))
        self._pushing_since = now if self._node.values["gripper.finger"] else None

    def poll(self, now):
        if self._pushing_since is not None and self._at_the_end(now - self._pushing_since):
            self._take_back()

    def problem(self):
        if not self._publisher.get_subscription_count():
            return f"nobody listens to {self._publisher.topic_name}"
        finger = self._node.values["gripper.finger"]
        if self._pushing_since is not None and (self._finger is None or self._range is None):
            where = "joint_states" if self._finger is None else "robot_description"
            return f"{where} has no {finger} (gripper.finger), so a gripper that closed on nothing goes on pushing"
        return ""

    def rest(self):
        super().rest()
        if self._pushing_since is not None:
            self._take_back()

    def close(self):
        self._node.destroy_publisher(self._publisher)
        for subscription in self._inputs:
            self._node.destroy_subscription(subscription)

    def _command(self, value: float) -> None:
        self._publisher.publish(self._type(name=self._node.values["gripper.joint"], cmd=value))

    def _take_back(self) -> None:
        self._pushing_since = None
        self._command(0.0)

    def _at_the_end(self, pushed: float) -> bool:
        """Whether the fingers have nothing to push against but the end of their way; `pushed`: for so long [s]."""
        opening = self._sent is None or self._sent[0] > 0.5
        if self._finger is None or self._range is None:
            return opening and pushed > OPENED
        low, high = self._range
        return opening and (pushed > OPENED or self._finger > high - END) or not opening and self._finger < low + END

    def _on_joint_states(self, message: JointState) -> None:
        here = dict(zip(message.name, message.position))
        self._finger = here.get(self._node.values["gripper.finger"], self._finger)

    def _on_description(self, message: String) -> None:
        limit = None
        with contextlib.suppress(ElementTree.ParseError):  # arm_node has said so
            limit = ElementTree.fromstring(message.data).find(f"joint[@name='{self._node.values['gripper.finger']}']/limit")
        self._range = None if limit is None else (float(limit.get("lower", 0.0)), float(limit.get("upper", 0.0)))
