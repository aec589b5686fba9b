# SPDX-License-Identifier: Apache-2.0
"""interbotix_joint_group and interbotix_joint_single: Interbotix X-series arms, such as the WidowX 250 S, by xs_sdk.

The arm takes interbotix_xs_msgs/JointGroupCommand on commands/joint_group: positions [rad] in the order of the group. The
motors go to each in the time of their profile, 2 s unless the driver is started with other modes: see
config/widowx_modes.yaml. The gripper takes JointSingleCommand on commands/joint_single, whose meaning is that of its
operating mode: PWM or current of the motor, or in linear_position the distance of the two fingers from each other [m].

To the driver a command is a number, and its mode says of what: positions sent to an arm in the mode velocity are speeds. So its
service get_robot_info is asked, and nothing is sent that its mode makes something else of. Any node may change the modes.
"""

import contextlib
import math
from typing import Any
from xml.etree import ElementTree

from rclpy.task import Future
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from vla_sd_ros.arms import required
from vla_sd_ros.arms.wiring import HERE, Listeners, Unconfirmed, gripper_position
from vla_sd_ros.messages.qos import LATCHED, NEWEST, SENSOR

END = 0.001  # m, from the limit of the fingers, where they are at the end of their way
OPENED = 2.0  # s, after which an opening gripper is open: nothing is worth pushing against
LOOK = 1.0  # s, between two questions for the mode
PATIENCE = 2.0  # s, that the first answer may take
POSITIONS = ("position", "ext_position", "current_based_position")  # modes that take angles [rad]
LINEAR = "linear_position"  # the driver's own mode, of a gripper
EFFORTS = ("pwm", "current")  # modes in which a motor pushes until it is told otherwise


class Mode:
    """What the driver says of a group of motors, or of one: get_robot_info, asked once a second."""

    def __init__(self, node, interface: str, kind: str, name: str):
        """kind: group or single, of that name."""
        self._type = required("interbotix_xs_msgs.srv", interface).RobotInfo
        self._node, self._kind, self._name = node, kind, name
        self._client = node.create_client(self._type, "get_robot_info")
        self._question: Future | None = None
        self.forget()

    def forget(self) -> None:
        """Begin anew to wait for an answer."""
        self.info: Any = None  # RobotInfo.Response
        self._since: float | None = None
        self._asked_at = -math.inf
        self._give_question_up()

    def ask(self, now: float) -> None:
        """Ask, where it is time to; `now` [s] of the steady clock. `info` is the newest answer, None before the first."""
        self._since = now if self._since is None else self._since
        if now - self._asked_at < LOOK:
            return
        if not self._client.service_is_ready():
            if self.info is not None:
                self.info, self._since = None, now
            return
        self._give_question_up()
        self._asked_at = now
        self._question = self._client.call_async(self._type.Request(cmd_type=self._kind, name=self._name))
        self._question.add_done_callback(self._on_answer)

    def unknown(self, now: float) -> str:
        """One sentence where there is still no answer, or no such motor; nothing while there may be an answer soon."""
        if self.info is not None:
            what, parameter = ("group", "interbotix.group") if self._kind == "group" else ("motor", "gripper.joint")
            return "" if self.info.joint_names else f"Interbotix's driver has no {what} '{self._name}': correct {parameter}"
        if self._since is None or now - self._since <= PATIENCE:
            return ""
        return f"nobody answers {self._node.resolve_service_name('get_robot_info')}: start Interbotix's driver, or correct its name"

    def close(self) -> None:
        """Ask no more."""
        self._node.destroy_client(self._client)

    def _give_question_up(self) -> None:
        if self._question is not None:
            self._client.remove_pending_request(self._question)
        self._question = None

    def _on_answer(self, question: Future) -> None:
        if question is self._question:
            self.info, self._question = question.result(), None


class JointGroup:
    """The arm, at interbotix.rate: each message starts the profiles of all motors anew."""

    offset = HERE

    def __init__(self, node):
        self._type = required("interbotix_xs_msgs.msg", "interbotix_joint_group").JointGroupCommand
        self._node, self._group = node, node.values["interbotix.group"]
        self._period = 1.0 / node.values["interbotix.rate"]
        self._mode = Mode(node, "interbotix_joint_group", "group", self._group)
        self._publisher = node.create_publisher(self._type, "commands/joint_group", NEWEST)
        self._listeners = Listeners(self._publisher)
        self._due: float | None = None

    def send(self, now, target, measured, joints):
        if self._mode.info is None or self._misfit() or self._due is not None and now < self._due:
            return
        self._due = max(now, (now if self._due is None else self._due) + self._period)
        self._publisher.publish(self._type(name=self._group, cmd=joints.tolist()))

    def fault(self, now):
        self._mode.ask(now)
        return self._listeners.fault(now) or self._mode.unknown(now) or self._misfit()

    def leave(self, measured):
        pass

    def rest(self):
        self._listeners.forget()
        self._mode.forget()
        self._due = None

    def close(self):
        self._mode.close()
        self._node.destroy_publisher(self._publisher)

    def _misfit(self) -> str:
        """One sentence where the group would make something else of positions in the order of joint_names."""
        info, wanted = self._mode.info, self._node.values["joint_names"]
        if info is None:
            return ""
        if info.mode not in POSITIONS:
            return (
                f"the group '{self._group}' of Interbotix's driver is in the mode '{info.mode}', which takes no positions: set "
                "it to position, in mode_configs or by set_operating_modes"
            )
        if list(info.joint_names) != list(wanted):
            return (
                f"the group '{self._group}' of Interbotix's driver has the joints {', '.join(info.joint_names)}, "
                f"and joint_names of arm_node {', '.join(wanted)}: both must be the same, in the same order"
            )
        return ""


class JointSingle(Unconfirmed):
    """The gripper.

    In a mode of effort (PWM, current) the motor pushes until it is told otherwise: here, as by Interbotix's own driver, when
    the fingers are at the end of their way and nothing is between them. gripper.finger is the joint that shows it; without
    one the commands are positions, which end by themselves. A wish that does not fit the mode is not sent; while that is not
    known yet it waits.
    """

    def __init__(self, node):
        super().__init__(node)
        self._type = required("interbotix_xs_msgs.msg", "interbotix_joint_single").JointSingleCommand
        self._mode = Mode(node, "interbotix_joint_single", "single", node.values["gripper.joint"])
        self._publisher = node.create_publisher(self._type, "commands/joint_single", NEWEST)
        self._pushing_since: float | None = None  # None: no effort is on
        self._finger: float | None = None  # m, measured
        self._range: tuple[float, float] | None = None  # m, of the finger
        self._now = 0.0  # s, at the last poll
        self._waiting: tuple[float, float, bytes] | None = None  # when it was told, and the wish, until the mode is known
        self._inputs = []
        if node.values["gripper.finger"]:
            self._inputs = [
                node.create_subscription(JointState, "joint_states", self._on_joint_states, SENSOR),
                node.create_subscription(String, "robot_description", self._on_description, LATCHED),
            ]

    def send(self, now, opening, goal=b""):
        if not self._publisher.get_subscription_count():
            self._sent = None  # a driver that comes back has no effort on
        self._waiting = (now, opening, goal) if self._mode.info is None else None
        if self._mode.info is None or self._misfit():
            self._sent = None
        else:
            super().send(now, opening, goal)

    def publish(self, now, opening):
        self._command(gripper_position(self._node, opening))
        self._pushing_since = now if self._node.values["gripper.finger"] else None

    def poll(self, now):
        self._now = now
        self._mode.ask(now)
        if self._waiting is not None:
            since, *wish = self._waiting
            if self._mode.info is not None and now - since < PATIENCE:
                self.send(now, *wish)
        if self._pushing_since is not None and self._at_the_end(now - self._pushing_since):
            self._take_back()

    def problem(self):
        if not self._publisher.get_subscription_count():
            return f"nobody listens to {self._publisher.topic_name}"
        if problem := self._mode.unknown(self._now) or self._misfit():
            return problem
        finger = self._node.values["gripper.finger"]
        if self._pushing_since is not None and (self._finger is None or self._range is None):
            where = "joint_states" if self._finger is None else "robot_description"
            return f"{where} has no {finger} (gripper.finger), so a gripper that closed on nothing goes on pushing"
        return ""

    def rest(self):
        super().rest()
        self._waiting = None
        if self._pushing_since is not None:
            self._take_back()

    def close(self):
        self._mode.close()
        self._node.destroy_publisher(self._publisher)
        for subscription in self._inputs:
            self._node.destroy_subscription(subscription)

    def _misfit(self) -> str:
        """One sentence where the motor would make something else of the wishes."""
        info, values = self._mode.info, self._node.values
        joint, finger = values["gripper.joint"], values["gripper.finger"]
        if info is None:
            return ""
        if finger and info.mode not in EFFORTS:
            return (
                f"the motor '{joint}' of Interbotix's driver is in the mode '{info.mode}', in which nothing pushes: leave "
                "gripper.finger empty, and give gripper.open_position and closed_position in the units of that mode"
            )
        if not finger and info.mode not in (*POSITIONS, LINEAR):
            return (
                f"the motor '{joint}' of Interbotix's driver is in the mode '{info.mode}', which takes no positions: name "
                "gripper.finger, by which an effort ends (pwm, current), or set linear_position"
            )
        if info.mode == LINEAR and info.joint_lower_limits:  # beyond them the driver computes no angle
            low, high = 2.0 * info.joint_lower_limits[0], 2.0 * info.joint_upper_limits[0]
            for name in ("gripper.open_position", "gripper.closed_position"):
                if not low - END <= values[name] <= high + END:
                    return (
                        f"{name} is {values[name]:g}, but in the mode linear_position it is the distance of the two fingers "
                        f"from each other: {low:.3f} .. {high:.3f} m"
                    )
        return ""

    def _command(self, value: float) -> None:
        self._publisher.publish(self._type(name=self._node.values["gripper.joint"], cmd=value))

    def _take_back(self) -> None:
        self._pushing_since = None
        if self._mode.info is None or self._mode.info.mode in EFFORTS:  # in any other mode 0 is a place to go to
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
