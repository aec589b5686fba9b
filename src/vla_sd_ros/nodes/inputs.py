# SPDX-License-Identifier: Apache-2.0
"""What vla_node hears: the camera's images, joint states and measured poses, which it takes when it needs them, and arm_node."""

import time
from contextlib import suppress
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage, Image, JointState
from vla_sd_msgs.msg import ArmStatus

from vla_sd_ros.kinematics.pose import Pose
from vla_sd_ros.kinematics.pose_buffer import PoseBuffer
from vla_sd_ros.messages import stamps
from vla_sd_ros.messages.images import compressed_to_rgb, to_rgb, unreadable
from vla_sd_ros.messages.poses import pose_of
from vla_sd_ros.messages.qos import LATCHED, SENSOR, SENSOR_QUEUE
from vla_sd_ros.nodes.matching import MatchedSubscription
from vla_sd_ros.nodes.polling import PolledOnly
from vla_sd_ros.watching.inputs import Clock, Latest, Sample

STATUS_SILENCE = 1.0  # s, after which what arm_node said last is not asked any more; it speaks at 10 Hz
LONGEST_FRAME_ID = 255  # characters of an image's: it goes out with every step


class NodeClock:
    """The clocks of a node; see watching.inputs.Clock."""

    def __init__(self, node: Any):
        self._node = node

    def now(self) -> float:
        return self._node.get_clock().now().nanoseconds * 1e-9

    def stamp(self) -> Any:
        """The same as a message."""
        return self._node.get_clock().now().to_msg()

    def steady(self) -> float:
        return time.monotonic()

    def wall(self) -> int:
        return time.time_ns()


class Inputs:
    """The newest of everything, from open() to close(). One thread at a time calls poll(), and one pose_at()."""

    def __init__(self, node: Any, clock: Clock):
        self._node, self._clock = node, clock
        self.camera: MatchedSubscription | None = None
        self.forget()

    def forget(self) -> None:
        """As if nothing had come yet."""
        self.images, self.joint_states, self.arm = Latest(), Latest(), Latest()
        self._poses = PoseBuffer()

    def open(self) -> None:
        """Subscribe. The node destroys what hangs on it; close() the rest."""
        values, node = self._node.values, self._node
        kind, topic = (CompressedImage, "image/compressed") if values["image.compressed"] else (Image, "image")
        self.camera = MatchedSubscription(node, kind, topic, qos=values["image.qos"], callback_group=PolledOnly())
        self._joints = node.create_subscription(
            JointState, "joint_states", lambda message: None, SENSOR, callback_group=PolledOnly()
        )
        self._measured = node.create_subscription(
            PoseStamped, "measured_pose", lambda message: None, SENSOR_QUEUE, callback_group=PolledOnly()
        )
        node.create_subscription(
            ArmStatus, "arm_node/status", self._on_arm_status, LATCHED, callback_group=MutuallyExclusiveCallbackGroup()
        )

    def close(self) -> None:
        """Hear nothing any more, and forget what was heard."""
        camera, self.camera, self._joints, self._measured = self.camera, None, None, None
        self.forget()
        if camera:
            camera.close()

    def poll(self) -> None:
        """Take what has come of joint states and images."""
        if not (camera := self.camera):  # not open
            return
        if taken := self._joints.handle.take_message(JointState, False):
            self._keep(self.joint_states, *taken)
        camera.look()
        while taken := camera.take():
            self._keep(self.images, *taken)
            if problem := self.camera_problem():
                self._node.get_logger().warning(problem, throttle_duration_sec=60.0)

    def picture(self, image: Sample) -> np.ndarray:
        """The pixels, uint8 (height, width, 3), RGB. ValueError, with one sentence, where it is none."""
        return (compressed_to_rgb if self._node.values["image.compressed"] else to_rgb)(image.message)

    def joint_positions(self) -> dict[str, float]:
        """By name [rad]; empty where none have come."""
        joints = self.joint_states.sample
        return dict(zip(joints.message.name, joints.message.position)) if joints else {}

    def pose_at(self, stamp: float) -> Pose | None:
        """Where arm_node measured the end effector at a time [s]; None where it did not."""
        while taken := self._measured.handle.take_message(PoseStamped, False):
            message, info = taken
            if message.header.frame_id != self._node.values["base_frame"]:
                continue
            with suppress(ValueError):  # it is none
                self._poses.add(stamps.seconds(message.header.stamp, self._clock.now() - self._waited(info)), pose_of(message.pose))
        return self._poses.at(stamp)

    def camera_problem(self) -> str:
        """Why no picture can be made of this camera's kind of images, as a sentence; empty where none has come."""
        image = self.images.sample
        problem = unreadable(image.message) if image else ""
        return f"The camera's images cannot be used: {problem}." if problem else ""

    def image_advice(self) -> str:
        """What to do about images that do not come, where more is known than that."""
        sample = self.images.sample
        arrives = sample is not None and self._clock.steady() - sample.received < self._node.values["image.timeout"]
        return ("" if arrives or not self.camera else self.camera.why_silent()) or "check the publisher and its clock"

    def held(self) -> str:
        """Why the arm takes no goal, as its own sentence; empty where it does, or has been silent."""
        arm = self.arm.sample
        if arm is None or self._clock.steady() - arm.received >= STATUS_SILENCE or arm.message.code != ArmStatus.HELD:
            return ""
        return arm.message.message

    def arm_status(self) -> ArmStatus:
        """The newest; an empty one where none has come."""
        return self.arm.sample.message if self.arm.sample else ArmStatus()

    def _on_arm_status(self, message: ArmStatus) -> None:
        self._keep(self.arm, message)

    def _keep(self, latest: Latest, message: Any, info: dict | None = None) -> None:
        """Put a message into its buffer. info: of the middleware; without it, the message came just now."""
        waited = self._waited(info) if info else 0.0
        latest.sample = Sample(
            message, stamps.seconds(message.header.stamp, self._clock.now() - waited), self._clock.steady() - waited
        )

    def _waited(self, info: dict) -> float:
        """For how long a message lay in the middleware [s], by the wall clock; 0 where the middleware does not know."""
        received = info["received_timestamp"]
        return max(0.0, 1e-9 * (self._clock.wall() - received)) if received else 0.0


def stamp_source(image: Sample) -> Any:
    """The header of an image, for messages about it: without a stamp it counts from its arrival, for arm_node too."""
    header = image.message.header
    header.frame_id = header.frame_id[:LONGEST_FRAME_ID]
    if not Time.from_msg(header.stamp).nanoseconds:
        # Simulated time begins at zero: what waited for it came before that.
        header.stamp = Time(nanoseconds=max(0, round(1e9 * image.stamp))).to_msg()
    return header
