# SPDX-License-Identifier: Apache-2.0
"""Pose and twist of the tip follow from the URDF, with joints in the caller's order and the others at rest."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pinocchio import log3

from vla_sd_ros.kinematics.arm import ArmKinematics

# A planar arm with lengths 0.5 and 0.3 m, on a lift; a finger on the tip. The tree's order is not the tests' order.
URDF = """
<robot name="scara"><link name="base"/><link name="carriage"/><link name="upper"/><link name="fore"/><link name="tip"/>
  <link name="finger"/>
  <joint name="lift" type="prismatic"><parent link="base"/><child link="carriage"/><axis xyz="0 0 1"/>
    <limit lower="0" upper="1" effort="1" velocity="1"/></joint>
  <joint name="shoulder" type="revolute"><parent link="carriage"/><child link="upper"/><axis xyz="0 0 1"/>
    <limit lower="-3" upper="3" effort="1" velocity="1"/></joint>
  <joint name="elbow" type="revolute"><parent link="upper"/><child link="fore"/><origin xyz="0.5 0 0"/>
    <axis xyz="0 0 1"/><limit lower="-3" upper="3" effort="1" velocity="1"/></joint>
  <joint name="end" type="fixed"><parent link="fore"/><child link="tip"/><origin xyz="0.3 0 0" rpy="0 0 0"/></joint>
  <joint name="grip" type="prismatic"><parent link="tip"/><child link="finger"/><axis xyz="0 1 0"/>
    <limit lower="0" upper="1" effort="1" velocity="1"/></joint>
</robot>"""
JOINTS = ["elbow", "lift", "shoulder"]
angles = st.lists(st.floats(-1.5, 1.5), min_size=3, max_size=3).map(np.array)


@pytest.fixture(scope="module")
def arm():
    return ArmKinematics(URDF, "tip", JOINTS)


@given(angles)
def test_the_pose_is_that_of_the_geometry(arm, q):
    elbow, lift, shoulder = q
    position, rotation = arm.forward(q)
    yaw = shoulder + elbow
    expected = [0.5 * np.cos(shoulder) + 0.3 * np.cos(yaw), 0.5 * np.sin(shoulder) + 0.3 * np.sin(yaw), lift]
    np.testing.assert_allclose(position, expected, atol=1e-12)
    np.testing.assert_allclose(rotation[:2, 0], [np.cos(yaw), np.sin(yaw)], atol=1e-12)


@settings(max_examples=50)
@given(angles, angles)
def test_the_twist_is_the_derivative_of_the_pose_in_base_axes(arm, q, dq):
    step = 1e-6
    (p0, r0), (p1, r1) = arm.forward(q - step * dq), arm.forward(q + step * dq)
    expected = np.concatenate([(p1 - p0), log3(r1 @ r0.T)]) / (2.0 * step)
    np.testing.assert_allclose(arm.twist(q, dq), expected, atol=1e-6)


@pytest.mark.parametrize(
    "urdf, tip, joints, words",
    [
        (URDF, "hand", JOINTS, "no link 'hand'; its links are: base, carriage"),
        (URDF, "tip", ["wrist"], "no movable joint 'wrist'; its movable joints are: "),
        (URDF, "tip", ["end"], "no movable joint 'end'"),
        ("<robot", "tip", JOINTS, "not a valid URDF"),
        ("", "tip", JOINTS, "not a valid URDF"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(urdf, tip, joints, words):
    with pytest.raises(ValueError, match="robot description") as error:
        ArmKinematics(urdf, tip, joints)
    assert words in str(error.value)


def test_a_wrong_number_of_joint_values_is_an_error(arm):
    with pytest.raises(ValueError, match="expected 3 joint values"):
        arm.forward(np.zeros(7))


@given(angles)
def test_a_link_that_is_fixed_to_the_tip_stays_at_its_offset(arm, q):
    position, rotation = arm.offset("fore")
    tip, turned = arm.forward(q)
    at, axes = ArmKinematics(URDF, "fore", JOINTS).forward(q)
    np.testing.assert_allclose(tip + turned @ position, at, atol=1e-12)
    np.testing.assert_allclose(turned @ rotation, axes, atol=1e-12)


@pytest.mark.parametrize(
    "link, words",
    [
        ("finger", "the link 'finger' is not fixed to the tip 'tip': a joint lies between them; these links are: fore, tip"),
        ("upper", "is not fixed to the tip"),
        ("flange", "has no link 'flange'; its links are: base, carriage"),
    ],
)
def test_a_link_that_moves_against_the_tip_has_no_offset(arm, link, words):
    with pytest.raises(ValueError, match=words):
        arm.offset(link)
