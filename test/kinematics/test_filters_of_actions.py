# SPDX-License-Identifier: Apache-2.0
"""The filters predict what seven filters of one dimension each predict, keep the dimensions apart, and forget at events."""

import time

import numpy as np
from filterpy.kalman import KalmanFilter
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_sd_ros.kinematics.filters import ActionFilter, constant_velocity, decaying

VALUES = st.floats(-1, 1)
ACTIONS = st.lists(st.lists(VALUES, min_size=7, max_size=7), min_size=1, max_size=14)


def by_filterpy(observations, F, H, Q, R) -> float:
    """The prediction of a filter of one dimension of the action."""
    kalman = KalmanFilter(dim_x=len(F), dim_z=1)
    kalman.F, kalman.H, kalman.Q, kalman.R, kalman.P = *map(np.array, (F, H, Q, R)), 10.0 * np.eye(len(F))
    for value in observations:
        kalman.update(value)
        kalman.predict()
    return (kalman.H @ kalman.x).item()


def moving(observations, process=0.02, measurement=0.05) -> float:
    noise = [[process / 4, process / 2], [process / 2, process]]
    return by_filterpy(observations, [[1.0, 1.0], [0.0, 1.0]], [[1.0, 0.0]], noise, [[measurement]])


@given(actions=ACTIONS)
@settings(max_examples=50, deadline=None)
def test_constant_velocity_is_filterpys_over_the_window(actions):
    own = ActionFilter(constant_velocity(0.02, 0.05), window=10)
    for action in actions:
        own.update(np.array(action))
    expected = [moving(column) for column in np.array(actions)[-10:].T]
    assert np.allclose(own.predict(), np.clip(expected, -1, 1), atol=1e-6)


@given(actions=ACTIONS, decay=st.lists(st.floats(0, 1.2), min_size=7, max_size=7))
@settings(max_examples=50, deadline=None)
def test_decaying_is_filterpys_over_the_window(actions, decay):
    noise = np.array([0.1, 0.2, 0.3, 0.01, 0.02, 0.03, 0.0])
    own = ActionFilter(decaying(np.array(decay), noise), window=10)
    for action in actions:
        own.update(np.array(action))
    expected = [
        by_filterpy(column, [[d]], [[1.0]], [[1.0]], [[r + 1e-9]]) for column, d, r in zip(np.array(actions)[-10:].T, decay, noise)
    ]
    assert np.allclose(own.predict(), np.clip(expected, -1, 1), atol=1e-6)


@given(actions=ACTIONS, dimension=st.integers(0, 6), value=VALUES)
@settings(max_examples=50, deadline=None)
def test_a_dimension_never_reaches_another(actions, dimension, value):
    one, other = (ActionFilter(constant_velocity()) for _ in range(2))
    for action in np.array(actions):
        one.update(action)
        other.update(np.where(np.arange(7) == dimension, value, action))
    same = np.delete(np.arange(7), dimension)
    assert np.allclose(one.predict()[same], other.predict()[same])


def repeating() -> ActionFilter:
    return ActionFilter(decaying(np.ones(7), np.zeros(7)))


def test_a_decay_of_one_without_noise_repeats_the_last_action():
    repeat = repeating()
    for action in np.linspace(-0.9, 0.9, 5):
        repeat.update(np.full(7, action))
    assert np.allclose(repeat.predict(), 0.9, atol=1e-6)


def test_events_begin_a_new_window():
    gated = ActionFilter(constant_velocity(0.02, 0.05), gate=0.5)
    for _ in range(6):
        gated.update(np.array([0.1] * 6 + [1.0]))
    gated.update(np.array([0.1] * 6 + [0.0]))  # the gripper closes
    assert np.allclose(gated.predict()[:6], moving([0.1]), atol=1e-6)
    gated.update(np.array([0.9] * 6 + [0.0]))  # another direction
    assert np.allclose(gated.predict()[:6], moving([0.9]), atol=1e-6)


def test_what_is_not_finite_is_forgotten():
    own = repeating()
    assert own.predict() is None
    own.update(np.zeros(7))
    own.update(np.full(7, np.nan))
    assert own.predict() is None


def test_the_longest_window_is_built_and_asked_in_milliseconds():
    start = time.process_time()
    own = ActionFilter(constant_velocity(), window=100)
    for action in np.random.default_rng(0).uniform(-1, 1, (100, 7)):
        own.update(action)
    own.predict()
    assert time.process_time() - start < 0.5
