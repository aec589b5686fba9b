# SPDX-License-Identifier: Apache-2.0
"""A running goal goes on, holds or ends as its limits and the ages of its inputs say."""

import math
from dataclasses import replace

import numpy as np
import pytest

from vla_sd_ros.watching.goal import ClientWatch, GoalCode, GoalLimits, GoalWatch, Situation
from vla_sd_ros.watching.inputs import Latest, Pacer, Sample
from vla_sd_ros.watching.picture import PictureWatch

LIMITS = GoalLimits(
    time_limit=60.0,
    step_limit=10,
    control_period=0.2,
    image_timeout=1.0,
    image_grace=2.0,
    joint_states_timeout=0.5,
    joint_states_grace=3.0,
    arm_grace=2.0,
    image_contrast=4.0,
)
FINE = Situation(steady=100.0, elapsed=1.0, steps=3, since_step=0.1, image_age=0.1, joint_states_age=0.01, arm_age=0.1)


def at(seconds: float, **changes) -> Situation:
    """The fine view, `seconds` later, with changes."""
    return replace(FINE, steady=FINE.steady + seconds, elapsed=FINE.elapsed + seconds, **changes)


def test_a_goal_with_fresh_inputs_goes_on():
    assert GoalWatch().check(FINE, LIMITS) == (False, "", None)


@pytest.mark.parametrize(
    "age, other_age, grace, code",
    [
        ("image_age", "joint_states_age", 2.0, GoalCode.IMAGE_STALE),
        ("joint_states_age", "image_age", 3.0, GoalCode.JOINT_STATES_STALE),
    ],
)
@pytest.mark.parametrize("value", [1.2, math.inf, -1.2, 1.7e9])  # late, never, ahead of the clock, since the boot
def test_a_stale_input_holds_and_past_its_grace_ends_the_goal(age, other_age, grace, code, value):
    watch = GoalWatch()
    for seconds in (0.0, grace - 0.01):
        verdict = watch.check(at(seconds, **{age: value}), LIMITS)
        assert verdict.hold and verdict.ending is None and verdict.why
    assert watch.check(at(grace, **{age: value}), LIMITS).ending.code == code


@pytest.mark.parametrize(
    "picture, code, words",
    [
        ({"image_unchanged": 1.1}, GoalCode.IMAGE_FROZEN, "the same picture for 1.1 s while the arm moved (limit 1 s)"),
        ({"image_contrast": 3.9}, GoalCode.IMAGE_BLANK, "the contrast is 3.9 (limit 4)"),
    ],
)
def test_a_picture_that_tells_nothing_holds_and_past_the_grace_time_ends_the_goal(picture, code, words):
    watch = GoalWatch()
    assert watch.check(at(0.0, **picture), LIMITS).hold and watch.check(at(1.99, **picture), LIMITS).ending is None
    ending = watch.check(at(2.0, **picture), LIMITS).ending
    assert (ending.code, ending.reason) == (code, "fault") and words in ending.message


def test_joint_states_that_are_a_fault_of_the_arm_do_not_make_the_picture_a_frozen_one():
    watch, limits = GoalWatch(), replace(LIMITS, arm_grace=3.0)
    lying = dict(image_unchanged=1.5, arm_code=1104, arm_message="not finite")
    assert watch.check(at(0.0, **lying), limits).ending is None
    assert watch.check(at(2.5, **lying), limits).ending is None
    assert watch.check(at(3.0, **lying), limits).ending == (1104, "fault", "not finite")


def test_a_client_that_is_gone_ends_the_goal_only_where_somebody_wants_that():
    gone = at(0.0, client_gone=3.0)
    assert GoalWatch().check(gone, LIMITS) == (False, "", None)
    assert GoalWatch().check(gone, replace(LIMITS, client_timeout=3.1)) == (False, "", None)
    ending = GoalWatch().check(gone, replace(LIMITS, client_timeout=3.0)).ending
    assert (ending.code, ending.reason) == (GoalCode.CLIENT_GONE, "fault") and "gone for 3.0 s (limit 3 s" in ending.message


def test_a_client_is_one_of_those_who_listened_when_the_goal_began():
    watch, ours, other, later = ClientWatch(), b"1", b"2", b"3"
    assert watch.gone(set(), 0.1, 10.1) == 0.0, "not discovered yet"
    assert watch.gone({ours, other}, 0.5, 10.5) == 0.0
    assert watch.gone({other, later}, 2.0, 12.0) == 0.0, "it may be the other's goal"
    assert watch.gone({later}, 3.0, 13.0) == 0.0 and watch.gone({later}, 4.5, 14.5) == pytest.approx(1.5)
    assert watch.gone({ours}, 5.0, 15.0) == 0.0, "it was the network"


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)


def test_the_same_picture_counts_from_its_first_sight_once_a_joint_moves():
    watch = PictureWatch()
    for step in range(4):  # the arm moves, and the picture with it
        watch.see(picture(step), {"a": 0.1 * step, "b": 0.0}, 0.05, 0.2 * step)
        assert watch.unchanged(0.2 * step) == 0.0
    watch.see(picture(3), {"a": 0.34, "b": 0.05}, 0.05, 0.8)
    assert watch.unchanged(1.0) == 0.0, "0.05 rad and less are no motion"
    watch.see(picture(3), {"a": 0.36}, 0.05, 1.0)
    assert watch.unchanged(1.7) == pytest.approx(1.7 - 0.6)
    watch.see(picture(3), {"a": 0.3}, 0.05, 1.8)  # it has moved back, but it has moved
    assert watch.unchanged(1.9) == pytest.approx(1.9 - 0.6)
    watch.see(picture(4), {"a": 0.3}, 0.05, 2.0)
    assert watch.unchanged(2.2) == 0.0


def test_a_still_picture_of_a_still_arm_is_fine_and_so_is_any_where_it_is_not_watched():
    watch, unwatched = PictureWatch(), PictureWatch()
    for step in range(20):
        watch.see(picture(0), {"a": 1.0}, 0.05, float(step))
        unwatched.see(picture(0), {"a": float(step)}, 0.0, float(step))
    assert watch.unchanged(20.0) == unwatched.unchanged(20.0) == 0.0


def test_a_fresh_image_in_between_starts_the_grace_time_again():
    watch = GoalWatch()
    watch.check(at(0.0, image_age=1.2), LIMITS)
    assert not watch.check(at(1.0), LIMITS).hold
    assert watch.check(at(2.5, image_age=1.2), LIMITS).ending is None


def test_the_time_limit_ends_the_goal():
    assert GoalWatch().check(at(58.9), LIMITS).ending is None
    assert GoalWatch().check(at(59.0), LIMITS).ending.code == GoalCode.TIME_LIMIT


def test_the_step_limit_lets_the_last_action_be_executed():
    assert GoalWatch().check(replace(FINE, steps=10), LIMITS).ending is None
    assert GoalWatch().check(replace(FINE, steps=10, since_step=0.2), LIMITS).ending.code == GoalCode.STEP_LIMIT


def test_a_fault_of_the_arm_that_stays_ends_the_goal_with_the_arms_code_and_sentence():
    watch = GoalWatch()
    fault = dict(arm_age=0.1, arm_code=1103, arm_message="A value is not finite.")
    assert watch.check(at(0.0, **fault), LIMITS).ending is None
    assert watch.check(at(2.0, **fault), LIMITS).ending == (1103, "fault", "A value is not finite.")


def test_a_passing_fault_and_a_hold_without_command_are_no_reason_to_end():
    watch = GoalWatch()
    for seconds in range(10):
        code = 1101 if seconds % 2 else 2
        assert watch.check(at(float(seconds), arm_age=0.1, arm_code=code), LIMITS).ending is None


def test_an_arm_node_that_fell_silent_ends_the_goal():
    assert GoalWatch().check(at(0.0, arm_age=1.9), LIMITS).ending is None
    assert GoalWatch().check(at(0.0, arm_age=2.1), LIMITS).ending.code == GoalCode.ARM_FAULT


def test_an_arm_node_that_was_never_heard_is_missed_after_its_grace_time():
    watch, unheard = GoalWatch(), dict(arm_age=math.inf)
    assert watch.check(at(0.0, **unheard), LIMITS).ending is None and watch.check(at(1.99, **unheard), LIMITS).ending is None
    ending = watch.check(at(2.0, **unheard), LIMITS).ending
    assert ending.code == GoalCode.ARM_FAULT and "No status of arm_node has come for 2.0 s" in ending.message


def test_an_arm_node_that_was_heard_in_time_is_not_missed():
    watch = GoalWatch()
    watch.check(at(0.0, arm_age=math.inf), LIMITS)
    assert watch.check(at(1.9), LIMITS).ending is None and watch.check(at(30.0), LIMITS).ending is None


def test_images_that_are_no_pictures_hold_like_missing_ones_and_past_the_grace_time_end_the_goal_with_the_reason():
    watch, cut = GoalWatch(), "the file ends early."
    assert not watch.check(at(0.0, image_unread=0.9, image_problem=cut), LIMITS).hold
    for seconds in (0.2, 2.19):
        verdict = watch.check(at(seconds, image_unread=1.0 + seconds, image_problem=cut), LIMITS)
        assert verdict.hold and verdict.ending is None and "the file ends early" in verdict.why
    ending = watch.check(at(2.2, image_unread=3.2, image_problem=cut), LIMITS).ending
    assert ending.code == GoalCode.IMAGE_UNDECODABLE and "3.2 s (limit 1 s): the file ends early and" in ending.message


def test_one_image_in_fifteen_that_is_no_picture_is_none_to_speak_of():
    watch = PictureWatch()
    for frame in range(60):
        if frame % 15 == 7:
            watch.miss("cut", 0.2 * frame)
            assert watch.unread(0.2 * frame) == pytest.approx(0.2) and watch.problem == "cut"
        else:
            watch.see(picture(frame), {}, 0.05, 0.2 * frame)
            assert watch.unread(0.2 * frame + 0.1) == 0.0


def test_without_any_picture_the_first_image_that_was_none_counts():
    watch = PictureWatch()
    for frame in range(10):
        watch.miss("cut", 5.0 + 0.2 * frame)
    assert watch.unread(7.0) == pytest.approx(2.0)


def test_age_counts_by_the_older_of_stamp_and_receipt():
    latest = Latest()
    assert latest.age(clock=10.0, steady=5.0) == math.inf
    latest.sample = Sample(None, stamp=9.0, received=4.9)  # delayed in the driver
    assert latest.age(clock=10.0, steady=5.0) == pytest.approx(1.0)
    latest.sample = Sample(None, stamp=12.0, received=2.0)  # the driver's clock runs ahead
    assert latest.age(clock=10.0, steady=5.0) == pytest.approx(3.0)
    latest.sample = Sample(None, stamp=12.0, received=4.0)
    assert latest.age(clock=10.0, steady=5.0) == pytest.approx(-2.0)


def used_stamps(frame_period: float, jitter: float, seconds: float = 20.0, period: float = 0.2) -> list[float]:
    """Stamps of the images that a fast model would decode, of a camera whose images arrive late by up to jitter."""
    pacer, used = Pacer(), []
    frames = [
        Sample(None, i * frame_period, i * frame_period + jitter * (i * 7 % 5) / 5.0) for i in range(int(seconds / frame_period))
    ]
    for tick in range(int(seconds * 1000)):
        now = tick / 1000.0
        arrived = [f for f in frames[max(0, int(now / frame_period) - 3) :] if f.received <= now]
        if arrived and pacer.wait(arrived[-1], now, period) == 0.0:
            pacer.use(arrived[-1], now, period)
            used.append(arrived[-1].stamp)
    return used


@pytest.mark.parametrize("rate, low, high", [(5.0, 4.95, 5.05), (30.0, 4.9, 5.2), (6.0, 4.0, 5.1), (2.0, 1.95, 2.05)])
@pytest.mark.parametrize("jitter", [0.0, 0.02])
def test_one_action_per_period_and_never_the_same_image_twice(rate, low, high, jitter):
    used = used_stamps(1.0 / rate, jitter)
    assert len(set(used)) == len(used)
    assert low <= (len(used) - 1) / (used[-1] - used[0]) <= high


def test_a_camera_at_the_control_rate_is_not_delayed():
    pacer = Pacer()
    pacer.use(Sample(None, 1.0, 0.0), steady=50.0, period=0.2)
    assert pacer.wait(Sample(None, 1.2, 0.0), steady=50.17, period=0.2) == 0.0


def test_a_fresh_image_right_after_the_first_action_of_a_goal_does_not_hasten_the_second():
    pacer = Pacer()
    pacer.use(Sample(None, 1.0, 0.0), steady=51.15, period=0.2)
    assert pacer.wait(Sample(None, 1.2, 0.0), steady=51.2, period=0.2) == pytest.approx(0.05)


def test_images_after_a_reset_of_the_clock_are_used():
    pacer = Pacer()
    pacer.use(Sample(None, 100.0, 0.0), steady=50.0, period=0.2)
    assert pacer.wait(Sample(None, 0.1, 0.0), steady=50.15, period=0.2) == 0.0


def stamps_of(kind: str, frames: int, frame_period: float) -> np.ndarray:
    """What a camera's driver may put into its headers; zero is replaced by the arrival before a Pacer sees it."""
    true = frame_period * np.arange(frames)
    rng = np.random.default_rng(0)
    return {
        "true": true,
        "zigzag": true + np.where(np.arange(frames) % 2, 0.3, -0.3),
        "random": true + rng.uniform(-1, 1, frames),
        "backwards": 100.0 - true,
        "too fast": 3.0 * true,
        "slow": 0.1 * true,
        "since the boot": true + 5000.0,
        "constant": np.full(frames, 100.0),
        "whole seconds": np.floor(true),
        "equal pairs": np.repeat(true[::2], 2)[:frames],
    }[kind]


KINDS = ["true", "zigzag", "random", "backwards", "too fast", "slow", "since the boot", "constant", "whole seconds", "equal pairs"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [5.0, 7.0, 10.0, 30.0])
def test_there_are_no_more_actions_than_periods_whatever_the_stamps_say(kind, rate):
    pacer, used, seconds, period = Pacer(), [], 60.0, 0.2
    stamps = stamps_of(kind, int(seconds * rate), 1.0 / rate)
    for tick in range(int(1000 * seconds)):
        now = tick / 1000.0
        frame = min(int(now * rate + 1e-9), len(stamps) - 1)
        sample = Sample(None, float(stamps[frame]), frame / rate)
        if pacer.wait(sample, now, period) == 0.0:
            pacer.use(sample, now, period)
            used.append(now)
    within = [np.searchsorted(used, start + 2.5) - i for i, start in enumerate(used)]
    assert max(within) <= 2.5 / period + 2  # one more at the beginning, and one that came early
    assert len(used) <= seconds / (0.98 * period) + 2
    assert np.diff(used).min() >= 0.5 * period - 1e-9
    assert len(used) >= 0.8 * seconds / period, "and it does not fall asleep"


def test_an_image_that_comes_twice_is_used_twice_only_where_no_other_one_comes():
    pacer = Pacer()
    pacer.use(Sample(None, 1.0, 50.0), steady=50.0, period=0.2)
    again = Sample(None, 1.0, 50.01)
    assert pacer.wait(again, steady=50.19, period=0.2) > 0.0 == pacer.wait(again, steady=50.22, period=0.2)
    assert pacer.wait(Sample(None, 1.2, 50.2), steady=50.2, period=0.2) == 0.0
    assert not pacer.late(again, steady=50.22, period=0.2), "its stamp says nothing, and no action was left out"


def test_after_an_image_that_was_no_picture_the_next_one_is_used_at_once():
    pacer = Pacer()
    pacer.use(Sample(None, 1.0, 0.0), steady=50.0, period=0.2)
    cut, whole = Sample(None, 1.2, 0.0), Sample(None, 1.233, 0.0)
    assert pacer.wait(cut, steady=50.2, period=0.2) == 0.0
    pacer.skip(cut)
    assert pacer.wait(cut, steady=50.21, period=0.2) == math.inf
    assert pacer.wait(whole, steady=50.233, period=0.2) == 0.0
