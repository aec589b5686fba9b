# SPDX-License-Identifier: Apache-2.0
"""Where the end effector was when an image was taken, and what it did since the image before."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vla_sd_ros.kinematics.motion import motion
from vla_sd_ros.kinematics.pose import Pose
from vla_sd_ros.kinematics.pose_buffer import PoseBuffer

SMALL = st.floats(-0.1, 0.1)


@given(st.lists(SMALL, min_size=6, max_size=6))
def test_a_motion_is_the_action_that_makes_it(action):
    before = Pose(np.array([0.4, 0.1, 0.2]), Rotation.from_euler("xyz", [3.0, 0.2, 0.5]).as_matrix())
    after = Pose(before.position + action[:3], Rotation.from_euler("xyz", action[3:]).as_matrix() @ before.rotation)
    assert np.allclose(motion(before, after), action, atol=1e-9)


def test_a_jump_or_a_nan_is_no_motion():
    here = Pose(np.zeros(3), np.eye(3))
    assert motion(here, Pose(np.array([0.5, 0, 0]), np.eye(3))) is None
    assert motion(here, Pose(np.full(3, np.nan), np.eye(3))) is None


def at_x(x: float) -> Pose:
    return Pose(np.array([x, 0.0, 0.0]), Rotation.from_euler("z", x).as_matrix())


def test_between_two_poses_it_interpolates():
    buffer = PoseBuffer()
    for stamp in (0.0, 0.1, 0.2):
        buffer.add(stamp, at_x(stamp))
    found = buffer.at(0.125)
    assert found.position[0] == pytest.approx(0.125)
    assert np.allclose(found.rotation, at_x(0.125).rotation)


def test_across_a_gap_nothing_is_interpolated():
    buffer = PoseBuffer()
    for stamp in (0.0, 0.1, 1.1):
        buffer.add(stamp, at_x(stamp))
    assert buffer.at(0.6) is None and buffer.at(0.25) is None
    assert buffer.at(0.15).position[0] == 0.1 and buffer.at(1.05).position[0] == 1.1
    assert buffer.at(0.05).position[0] == pytest.approx(0.05)


def test_outside_of_them_only_a_near_pose_counts():
    buffer = PoseBuffer()
    assert buffer.at(1.0) is None
    buffer.add(1.0, at_x(1.0))
    assert buffer.at(1.05).position[0] == 1.0 and buffer.at(0.95).position[0] == 1.0
    assert buffer.at(1.2) is None and buffer.at(0.8) is None


def test_a_clock_that_jumps_back_begins_anew_and_old_stamps_are_ignored():
    buffer = PoseBuffer()
    buffer.add(100.0, at_x(1.0))
    buffer.add(99.9, at_x(2.0))
    assert buffer.at(100.0).position[0] == 1.0
    buffer.add(5.0, at_x(3.0))
    assert buffer.at(100.0) is None and buffer.at(5.0).position[0] == 3.0


def test_a_pose_that_is_not_finite_is_dropped():
    buffer = PoseBuffer()
    buffer.add(1.0, Pose(np.full(3, np.inf), np.eye(3)))
    assert buffer.at(1.0) is None
