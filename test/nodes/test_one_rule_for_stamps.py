# SPDX-License-Identifier: Apache-2.0
"""Zero stamps count from the arrival; others are believed, and those of another time are refused everywhere alike."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from vla_sd_ros.control.controller import Command, Config
from vla_sd_ros.control.joint_states import late
from vla_sd_ros.kinematics.pose import Pose
from vla_sd_ros.kinematics.pose_buffer import PoseBuffer
from vla_sd_ros.messages import stamps
from vla_sd_ros.watching.goal import GoalLimits, GoalWatch, Situation
from vla_sd_ros.watching.inputs import Latest, Sample

NOW = 1.8e9  # s, a node's clock
LIMITS = GoalLimits(
    time_limit=60.0,
    step_limit=10,
    control_period=0.2,
    image_timeout=1.0,
    image_grace=2.0,
    joint_states_timeout=1.0,
    joint_states_grace=2.0,
    arm_grace=2.0,
)
FINE = Situation(steady=50.0, elapsed=1.0, steps=0, since_step=9.0, image_age=0.0, joint_states_age=0.0, arm_age=0.0)
POSE = Pose(np.zeros(3), np.eye(3))


def stamp(seconds: float) -> SimpleNamespace:
    return SimpleNamespace(sec=int(seconds), nanosec=int(seconds % 1 * 1e9))


@pytest.mark.parametrize(
    "written, taken",
    [(0.0, True), (NOW - 0.3, True), (NOW + 0.3, True), (NOW - 10.0, False), (NOW + 10.0, False), (5000.0, False)],
    ids=["zero", "late", "early", "too late", "too early", "since the boot"],
)
def test_images_joint_states_commands_and_poses_are_taken_or_refused_alike(written, taken):
    counts = stamps.seconds(stamp(written), NOW)  # the message came just now
    latest = Latest()
    latest.sample = Sample(None, counts, 50.0)
    age = latest.age(NOW, 50.0)
    assert GoalWatch().check(replace(FINE, image_age=age), LIMITS).hold != taken
    assert GoalWatch().check(replace(FINE, joint_states_age=age), LIMITS).hold != taken
    command = Command(b"1", 0, "panda_link0", False, np.zeros(3), np.zeros(3), 1.0, 0.2, stamps.age(counts, NOW))
    if taken:
        command.check(Config(command_max_age=1.0))
    else:
        with pytest.raises(ValueError, match="see whether the clocks agree"):
            command.check(Config(command_max_age=1.0))
    poses = PoseBuffer()
    poses.add(counts, POSE)
    assert (poses.at(NOW) is not None) == (taken and abs(counts - NOW) < 0.1)


@pytest.mark.parametrize(
    "written, taken",
    [(lambda time: NOW, 1.0), (lambda time: np.floor(time), 10.0), (lambda time: NOW + 0.9, 1.9), (lambda time: NOW - 3.0, 0.0)],
    ids=["constant", "whole seconds", "constant, early", "constant, old"],
)
def test_equal_stamps_are_believed_until_they_are_too_old(written, taken):
    """Of a driver that stamps all its messages alike nothing is taken after `taken` [s]."""
    latest, times = Latest(), NOW + np.arange(0.05, 9.5, 0.1)
    for time in times:
        latest.sample = Sample(None, stamps.seconds(stamp(written(time)), time), time)
        age = latest.age(time, time)
        assert GoalWatch().check(replace(FINE, image_age=age), LIMITS).hold == (time - NOW > taken)
        assert bool(late(age, 1.0)) == (time - NOW > taken)  # arm_node's rule for joint states


def test_the_one_of_stamp_and_arrival_that_is_farther_from_now_counts():
    assert stamps.age(9.0, clock=10.0, waited=0.1) == 1.0
    assert stamps.age(9.9, clock=10.0, waited=3.0) == 3.0
    assert stamps.age(12.0, clock=10.0, waited=0.1) == -2.0


@pytest.mark.parametrize(
    "age, words",
    [
        (1.23, "is 1.2 s old"),
        (-1.23, "is stamped 1.2 s in the future"),
        (1.8e9, "before this node's time, so of another clock"),
        (-1.8e9, "after this node's time"),
    ],
)
def test_an_age_is_told_in_words(age, words):
    assert words in stamps.told(age)
