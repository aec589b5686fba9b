# SPDX-License-Identifier: Apache-2.0
"""A delta composes onto the previous target in base axes: p + t, and Rz(yaw) Ry(pitch) Rx(roll) R."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from strategies import poses, vectors

from vla_sd_ros.kinematics.pose import delta_displacement, interpolate


def rz_ry_rx(roll, pitch, yaw):
    cr, sr, cp, sp, cy, sy = np.cos(roll), np.sin(roll), np.cos(pitch), np.sin(pitch), np.cos(yaw), np.sin(yaw)
    rx = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    ry = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    rz = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    return rz @ ry @ rx


@given(poses, vectors(0.1), vectors(1.0))
def test_translation_and_rotation_are_in_base_axes(pose, translation, rpy):
    moved = pose.moved(delta_displacement(translation, rpy))
    np.testing.assert_allclose(moved.position, pose.position + translation, atol=1e-12)
    np.testing.assert_allclose(moved.rotation, rz_ry_rx(*rpy) @ pose.rotation, atol=1e-9)


@given(poses, poses)
def test_the_displacement_between_two_poses_leads_from_one_to_the_other(one, other):
    moved = one.moved(one.displacement_to(other))
    np.testing.assert_allclose(moved.position, other.position, atol=1e-12)
    np.testing.assert_allclose(moved.rotation, other.rotation, atol=1e-6)


@given(poses, vectors(0.1), vectors(0.5), st.floats(0.0, 1.0))
def test_interpolation_is_linear_in_position_and_geodesic_in_rotation(pose, translation, rotation_vector, share):
    displacement = np.concatenate([translation, rotation_vector])
    between = interpolate(pose, pose.moved(displacement), share)
    np.testing.assert_allclose(pose.displacement_to(between), share * displacement, atol=1e-7)
