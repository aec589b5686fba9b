# SPDX-License-Identifier: Apache-2.0
"""Where the arm is: robot_description and joint_states in, a measured pose for arm_node's controller, and for all others."""

import math
import time
from typing import Any

from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from vla_sd_ros.arms.wiring import HERE
from vla_sd_ros.control import joint_states
from vla_sd_ros.control.codes import Code, Fault
from vla_sd_ros.control.joint_states import JointStateWatch, admit, late, picked
from vla_sd_ros.kinematics.arm import ArmKinematics
from vla_sd_ros.kinematics.pose import Pose
from vla_sd_ros.messages import stamps
from vla_sd_ros.messages.poses import stamped
from vla_sd_ros.messages.qos import LATCHED, SENSOR
from vla_sd_ros.nodes.view import View

RESETTING, RESET = 30.0, 1.0  # s after a simulator's word in which it begins to put the arm anywhere, and ends
SILENCE = 1.5  # times joint_state_timeout: no pause of the joint states is shorter


class ArmState:
    """Tells the controller of its node what the arm's own topics say, and what is wrong with them."""

    def __init__(self, node: Any, arm: Any):
        """node: arm_node, whose `controller` is another one from activation to activation. arm: the robot's side."""
        self._node, self._arm = node, arm
        self._kinematics: ArmKinematics | None = None
        self._reset_until = -math.inf  # s
        self._described = self._used = ""  # robot_description: the newest, and the one that is used
        self._measured = node.create_publisher(PoseStamped, "measured_pose", 10)
        self._view = View(node)
        node.controller.unmeasured = "no robot_description has come yet"
        node.create_subscription(String, "robot_description", self.on_description, LATCHED)
        node.create_subscription(JointState, "joint_states", self.on_joint_states, SENSOR)

    def on_description(self, message: String) -> None:
        """Take the description, but not while it matters: a tip or a base that changes would move the arm."""
        self._described, controller = message.data, self._node.controller
        if not self._node.active or self._kinematics is None:
            self._use_description()
        elif self._described == self._used:
            controller.unblock("description")
        else:
            controller.block(
                "description",
                Fault(
                    Code.DESCRIPTION_CHANGED,
                    "robot_description changed while arm_node is active, so the arm holds: deactivate and activate arm_node to "
                    "take the new one, or look for a second publisher of it",
                ),
            )

    def _use_description(self) -> None:
        self._used, values, controller = self._described, self._node.values, self._node.controller
        try:
            kinematics = ArmKinematics(self._used, values["tip_link"], values["joint_names"], values["base_frame"])
            self._arm.offset = controlled_link(kinematics, values["arm.tip_link"])
            self._kinematics = kinematics
            self._watch = JointStateWatch(
                kinematics.joint_names, *kinematics.position_limits, kinematics.velocity_limits, lambda q: kinematics.forward(q)[0]
            )
            controller.unmeasured = "no joint states have come yet"
        except ValueError as error:
            self._kinematics = None
            self._node.get_logger().error(f"{self._node.get_name()} cannot use robot_description: {error}")
            controller.unmeasured = str(error)
        controller.kinematics = self._kinematics

    def on_joint_states(self, message: JointState) -> None:
        """A new measured pose, unless the message is of other joints, makes no sense, or is late."""
        if self._kinematics is None:
            return
        now, stamp, controller = time.monotonic(), message.header.stamp, self._node.controller
        try:
            q = picked(self._kinematics.joint_names, message.name, message.position)
        except ValueError as error:
            self._watch.refuse(now)
            controller.block("joint states", Fault(Code.JOINT_STATES_INVALID, str(error)))
            return
        if q is None:
            return
        seconds, timeout = stamp.sec + 1e-9 * stamp.nanosec, self._node.values["joint_state_timeout"]
        self._watch.silence = max(joint_states.SILENCE, SILENCE * timeout)
        if now < self._reset_until and self._watch.leaps(q, seconds, now):
            self._reset_until = min(self._reset_until, now + RESET)
            self._watch.forget()
        if not admit(self._watch, controller, q, seconds, now):
            return
        controller.unmeasured = late(age_of(self._node, stamp), timeout)
        if controller.unmeasured:
            return  # the last pose goes stale
        self._measured_stamp = stamp if stamp.sec or stamp.nanosec else self._node.get_clock().now().to_msg()
        controller.measure(Pose(*self._kinematics.forward(q)), now, q)

    def begin_anew(self) -> None:
        """At activation, when nothing moves yet: with the newest description, and wherever the arm is."""
        if self._described != self._used:
            self._use_description()
        if self._kinematics is not None:
            self._watch.forget()

    def expect_reset(self) -> None:
        """The simulator is about to put the arm elsewhere: the leap of its joints is no fault."""
        self._reset_until = time.monotonic() + RESETTING

    def reset_is_over(self) -> None:
        """A goal has begun: from now on a leap is one, also where the simulator put the arm where it stood."""
        self._reset_until = -math.inf

    @property
    def lost(self) -> bool:
        """Whether no goal begins before `vouch`, because the joints are said to be elsewhere, and nobody saw how they got there."""
        return self._kinematics is not None and self._watch.lost

    def vouch(self) -> str:
        """Whoever operates the arm says that it stands as its joint states say, now or when they come again. One sentence where they
        make no sense, so that this cannot be; nothing changes then."""
        if self._kinematics is None:
            return ""
        lost = self.lost
        if not self._watch.vouch(time.monotonic()):
            return "the joint states make no sense, or contradict each other: see to that first (~/status says what is wrong)"
        if lost:
            self._node.controller.unblock("joint states")
        return ""

    def publish(self, commanded: Pose | None) -> None:
        """measured_pose, and for viewers what is commanded."""
        now, controller = time.monotonic(), self._node.controller
        if self._node.active and controller.measured_is_fresh(now):
            measured = stamped(controller.measured, self._node.values["base_frame"], self._measured_stamp)
            self._measured.publish(measured)
            self._view.update(now, commanded, measured)


def controlled_link(kinematics: ArmKinematics, link: str) -> Pose:
    """The link that the arm's controller moves, in the axes of tip_link; the tip itself where `link` is empty."""
    try:
        return Pose(*kinematics.offset(link)) if link else HERE
    except ValueError as error:
        raise ValueError(f"arm.tip_link cannot be the link that the controller moves: {error}") from error


def age_of(node: Any, stamp: Any) -> float:
    """Age of what came just now with a stamp, on the node's clock [s]; see stamps.py."""
    now = node.get_clock().now().nanoseconds * 1e-9
    return stamps.age(stamps.seconds(stamp, now), now)
