# SPDX-License-Identifier: Apache-2.0
"""Poses and the stamps of what was computed for a moment, as messages and back."""

import time
from typing import Any

import numpy as np
import pinocchio as pin
from geometry_msgs.msg import PoseStamped
from rclpy.clock import ROSClock
from rclpy.duration import Duration

from vla_sd_ros.kinematics.pose import Pose


def stamp_of(clock: ROSClock, moment: float) -> Any:
    """ROS time, as a message, of a moment of time.monotonic() [s] just now: what was computed for it may have taken its time.

    Simulated time does not go on meanwhile: there it is the present one.
    """
    late = 0.0 if clock.ros_time_is_active else time.monotonic() - moment
    return (clock.now() - Duration(seconds=late)).to_msg()


def stamped(pose: Pose, frame: str, stamp: Any) -> PoseStamped:
    """A pose as a message."""
    message = PoseStamped()
    message.header.stamp = stamp
    message.header.frame_id = frame
    p, o = message.pose.position, message.pose.orientation
    # Not pin.Quaternion(rotation): eigenpy never frees the matrix that it makes of the array, 80 bytes each time.
    p.x, p.y, p.z, o.x, o.y, o.z, o.w = pin.SE3ToXYZQUAT(pin.SE3(pose.rotation, pose.position)).tolist()
    return message


def pose_of(message: Any) -> Pose:
    """The pose in a geometry_msgs/Pose. ValueError, with the rest of a sentence about it, where it is none."""
    at, q = message.position, message.orientation
    position, quaternion = np.array([at.x, at.y, at.z]), np.array([q.x, q.y, q.z, q.w])
    if not (np.isfinite(position).all() and np.isfinite(quaternion).all()):
        raise ValueError("it has values that are not finite")
    if abs(np.linalg.norm(quaternion) - 1) > 1e-3:
        raise ValueError(f"its quaternion has length {np.linalg.norm(quaternion):.3f}, but must have length 1")
    return Pose(position, np.asarray(pin.Quaternion(q.w, q.x, q.y, q.z).normalized().matrix()))
