# SPDX-License-Identifier: Apache-2.0
"""servo_twist and servo_pose: MoveIt Servo, a twist (`delta_twist_cmds`) or a pose (`pose_target_cmds`) at every tick.

Servo takes only the kind of command that its service `switch_command_type` was told, and halts smoothly when the newest
stamp is older than its incoming_command_timeout (0.1 s). It tells what it does with a command in ~/status, and says nothing
at all while it is paused, though it answers the service. Twists are in m/s and rad/s: Servo's command_in_type must be
speed_units. Both kinds are for the tip of its IK solver: a pose of it; its velocity, and the angular velocity about it, in
the axes of the header's frame as long as Servo's apply_twist_commands_about_ee_frame is true (the default).
"""

import math
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.task import Future

from vla_sd_ros.arms import required
from vla_sd_ros.arms.wiring import HERE
from vla_sd_ros.control.clipping import clip_step
from vla_sd_ros.kinematics.pose import Pose
from vla_sd_ros.messages.poses import stamped
from vla_sd_ros.messages.qos import NEWEST

# Stamp of the last command before silence: Servo halts at once, smoothly, instead of going on for its timeout
# (ServoNode::processPoseCommand and processTwistCommand).
STALE = Time()
RETRY = 1.0  # s, between two requests to switch the kind of command
SILENCE = 1.0  # s, without ~/status, after which Servo is taken for gone
# Codes of moveit_msgs/ServoStatus with which Servo does not move. With the others it moves, if more slowly.
HALTS = {
    -1: "took a command for invalid",
    2: "halted before a singularity",
    5: "halted before a collision",
    6: "halted at the bound of a joint",
}


class Servo:
    """Servo's side that both kinds share: the switch, and the status."""

    def __init__(self, node, interface: str, kind: str):
        self._node, self._kind, self._name = node, kind, node.values["servo.node"]
        if not node.values["arm.tip_link"]:  # a guess would turn the arm by the angle between the two links
            raise ValueError(
                f"arm.interface {interface} needs arm.tip_link, the link in which the planning group of {self._name} ends (of a "
                "Franka link8, unless its SRDF says otherwise)"
            )
        types = required("moveit_msgs.msg", interface)
        self._switch = required("moveit_msgs.srv", interface).ServoCommandType
        self._client = node.create_client(self._switch, f"{self._name}/switch_command_type")
        self._status = node.create_subscription(types.ServoStatus, f"{self._name}/status", self._on_status, 10)
        self._heard_at = -math.inf
        self.rest()

    def rest(self) -> None:
        """Whoever uses Servo until the next goal may switch, pause or restart it."""
        self._since: float | None = None  # when commands began
        self._asked_at: float | None = None
        self._answer: Future | None = None
        self._switched = self._heard = False  # _heard: a status came since the last look
        self._refused = self._halted = ""

    def ready(self, now: float) -> bool:
        """Whether commands can be sent; if not, ask Servo for it, now and again."""
        speaks = not self._silent(now)
        self._switched = self._switched and speaks  # a Servo that starts again has forgotten the kind
        if not self._switched and (self._asked_at is None or now - self._asked_at > RETRY):
            self._asked_at = now
            if self._client.service_is_ready():
                request = self._switch.Request(command_type=getattr(self._switch.Request, self._kind))
                self._answer = self._client.call_async(request)
                self._answer.add_done_callback(self._on_switched)
        return self._switched and now - self._heard_at <= SILENCE

    def fault(self, now: float) -> str:
        """Why Servo does not move the arm at time `now` [s, steady], as a sentence; empty while nothing is known against it."""
        if not self._silent(now):
            return self._refused or self._halted
        if not self._client.service_is_ready():
            return f"{self._name} does not answer switch_command_type: start MoveIt Servo, or correct servo.node"
        return (
            f"{self._name} sends no status: it is paused (its service pause_servo with data: false ends that) or waits "
            "for joint states"
        )

    def close(self) -> None:
        """Destroy the client and the subscription."""
        self._node.destroy_client(self._client)
        self._node.destroy_subscription(self._status)

    def _silent(self, now: float) -> bool:
        self._since = now if self._since is None else self._since
        if self._heard:
            self._heard, self._heard_at = False, now
        return now - max(self._since, self._heard_at) > SILENCE

    def _on_switched(self, future: Future) -> None:
        if future is not self._answer:
            return
        answer: Any = future.result()
        self._switched = bool(answer.success)
        self._refused = "" if self._switched else f"{self._name} refused to take commands of kind {self._kind}"

    def _on_status(self, message) -> None:
        self._heard = True
        how = HALTS.get(message.code)
        self._halted = f"MoveIt Servo {how}" + (f" ({message.message})" if message.message else "") if how else ""


class ServoPose:
    """The target itself, as a pose."""

    def __init__(self, node):
        self.offset = HERE
        self._servo = Servo(node, "servo_pose", "POSE")
        self._node, self._frame = node, node.values["base_frame"]
        self._publisher = node.create_publisher(PoseStamped, f"{node.values['servo.node']}/pose_target_cmds", NEWEST)
        self._last: Pose | None = None
        self.fault = self._servo.fault

    def send(self, now, target, measured, joints):
        """See Arm.send: the target of the link that Servo moves, in the base frame, once Servo takes poses."""
        if self._servo.ready(now):
            self._last = target.attached(self.offset)
            self._publisher.publish(stamped(self._last, self._frame, self._node.get_clock().now().to_msg()))

    def rest(self):
        """See Arm.rest: the last pose once more with the stamp STALE, at which Servo halts smoothly."""
        if self._last is not None:
            self._publisher.publish(stamped(self._last, self._frame, STALE))
        self._last = None
        self._servo.rest()

    def leave(self, measured):
        """Servo keeps nothing for its next activation."""

    def close(self):
        """Destroy the publisher, and what Servo's side has made."""
        self._servo.close()
        self._node.destroy_publisher(self._publisher)


class ServoTwist:
    """The velocity of the target, corrected by the distance of the arm from it, within the limits of arm_node."""

    def __init__(self, node):
        self.offset = HERE
        self._servo = Servo(node, "servo_twist", "TWIST")
        self._node = node
        self._publisher = node.create_publisher(TwistStamped, f"{node.values['servo.node']}/delta_twist_cmds", NEWEST)
        self._last: tuple[float, Pose] | None = None
        self.fault = self._servo.fault

    def send(self, now, target, measured, joints):
        """See Arm.send: the twist (6,) [m/s, rad/s] in the base frame that follows the target; none for the first target."""
        target, measured = target.attached(self.offset), measured.attached(self.offset)
        last, self._last = self._last, (now, target)
        if not self._servo.ready(now) or last is None or now <= last[0]:
            return
        values = self._node.values  # live
        velocity = last[1].displacement_to(target) / (now - last[0])
        twist = velocity + values["servo.gain"] * measured.displacement_to(target)
        twist = clip_step(twist, values["limits.linear_velocity"], values["limits.angular_velocity"])
        self._publish(twist, self._node.get_clock().now().to_msg())

    def leave(self, measured):
        """Servo keeps nothing for its next activation."""

    def rest(self):
        """See Arm.rest: a twist of zero with the stamp STALE, at which Servo halts smoothly."""
        if self._last is not None:
            self._publish(np.zeros(6), STALE)
        self._last = None
        self._servo.rest()

    def close(self):
        """Destroy the publisher, and what Servo's side has made."""
        self._servo.close()
        self._node.destroy_publisher(self._publisher)

    def _publish(self, twist: np.ndarray, stamp: Time) -> None:
        message = TwistStamped()
        message.header.stamp = stamp
        message.header.frame_id = self._node.values["base_frame"]
        for vector, numbers in ((message.twist.linear, twist[:3]), (message.twist.angular, twist[3:])):
            vector.x, vector.y, vector.z = numbers.tolist()
        self._publisher.publish(message)
