# SPDX-License-Identifier: Apache-2.0
"""Whatever arm_node receives: it holds, lives, and says in one short sentence what is wrong."""

import time

import pytest
from panda import NAMES, urdf
from std_msgs.msg import Header

from vla_sd_ros.control.codes import Code


def assert_told(arm, code, *words):
    status = arm.status
    assert (status.moving, status.code) == (False, code)
    assert all(word in status.message for word in words), status.message
    assert len(status.message) < 300 and "\n" not in status.message


def test_joint_states_that_are_late_by_their_stamps_are_stale(arm):
    arm.drive(1)
    for age in (0.1, 0.15, 0.19, 0.25, 4.0, 4.0):
        arm.run(0.1, age=age)
    assert_told(arm, Code.JOINT_STATES_STALE, "4.00 s old by their stamps", "clocks agree")
    arm.run(0.2)
    arm.drive(1, goal=2)
    assert arm.status.moving


def test_a_joint_that_comes_twice(arm):
    arm.drive(1)
    arm.measure(name=[*NAMES, "panda_joint3"], position=[*arm.q, 0.0])
    assert_told(arm, Code.JOINT_STATES_INVALID, "names 'panda_joint3' 2 times")


def test_a_frame_of_ten_megabytes(arm):
    arm.command(frame="x" * 10_000_000)
    assert_told(arm, Code.COMMAND_INVALID, "its frame is 'xxx", "(10000000 characters)")


def test_joint_states_with_a_frame_of_ten_megabytes_are_as_good_as_others(arm):
    huge = Header(frame_id="x" * 10_000_000)
    arm.drive(1)
    begin = time.monotonic()
    arm.measure(header=huge)
    assert time.monotonic() - begin < 0.1
    assert (arm.status.moving, arm.status.code) == (True, Code.OK)


def test_a_frame_of_control_characters(arm):
    arm.command(frame="panda_link0\n\x1b[2J\x07")
    assert_told(arm, Code.COMMAND_INVALID, r"'panda_link0\n\x1b[2J\x07'")


@pytest.mark.parametrize(
    "change, words",
    [
        (('velocity="2"', 'velocity="0"'), "allows joint 'panda_joint1' a velocity of 0"),
        (('"panda_joint4"', '"panda_joint3"'), "2 joints are called 'panda_joint3'"),
    ],
)
def test_a_description_in_which_the_arm_cannot_move(make_arm, change, words):
    arm = make_arm().start(urdf().replace(*change))
    arm.run(0.3)
    arm.drive(1)
    assert not arm.sent
    assert_told(arm, Code.JOINT_STATES_STALE, words)


def test_joint_names_that_come_twice_are_refused_at_start(make_arm):
    with pytest.raises(ValueError, match="joint_names has a name twice"):
        make_arm(joint_names=["panda_joint1", *NAMES])
