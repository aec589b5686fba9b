# SPDX-License-Identifier: Apache-2.0
"""Messages of poses say the pose, and making a hundred of them a second for days takes no memory."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
from builtin_interfaces.msg import Time

from vla_sd_ros.kinematics.pose import Pose
from vla_sd_ros.messages.poses import pose_of, stamped

TIMES = 100_000  # a quarter of an hour at 100 Hz


def resident() -> int:
    """Memory of this process [bytes]."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_the_orientation_is_that_of_the_rotation_matrix():
    for turn in Rotation.random(100, random_state=0):
        message = stamped(Pose(np.array([0.1, -0.2, 0.3]), turn.as_matrix()), "base", Time(sec=3))
        p, o = message.pose.position, message.pose.orientation
        assert [p.x, p.y, p.z] == pytest.approx([0.1, -0.2, 0.3]) and message.header.stamp.sec == 3
        assert (Rotation.from_quat([o.x, o.y, o.z, o.w]) * turn.inv()).magnitude() < 1e-9


def test_there_and_back_it_is_the_same_pose():
    for turn in Rotation.random(20, random_state=1):
        pose = pose_of(stamped(Pose(np.array([0.1, -0.2, 0.3]), turn.as_matrix()), "base", Time()).pose)
        assert np.allclose(pose.position, [0.1, -0.2, 0.3]) and np.allclose(pose.rotation, turn.as_matrix(), atol=1e-12)


@pytest.mark.parametrize(
    "field, value, words",
    [("position", np.nan, "not finite"), ("orientation", np.inf, "not finite"), ("orientation", 0.5, "length 1")],
)
def test_what_is_no_pose_is_refused(field, value, words):
    message = stamped(Pose(np.zeros(3), np.eye(3)), "base", Time()).pose
    getattr(message, field).x = value
    with pytest.raises(ValueError, match=words):
        pose_of(message)


def test_a_hundred_thousand_messages_take_no_memory():
    pose, stamp = Pose(np.zeros(3), np.eye(3)), Time()
    for _ in range(1000):
        stamped(pose, "base", stamp)
    before = resident()
    for _ in range(TIMES):
        stamped(pose, "base", stamp)
    assert resident() - before < 2e6
