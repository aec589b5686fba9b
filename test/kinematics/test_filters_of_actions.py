# SPDX-License-Identifier: Apache-2.0
"""The filters predict what filterpy's own filter predicts, keep the dimensions apart, and forget at events."""
import time

import numpy as np
import pytest
from filterpy.kalman import KalmanFilter
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_sd_ros.kinematics.filters import ActionFilter, constant_velocity, decaying

VALUES = st.floats(-1, 1)
ACTIONS = st.lists(st.lists(VALUES, min_size=7, max_size=7), min_size=1, max_size=14)


def by_filterpy(model, observations) -> float:
    kalman = KalmanFilter(dim_x=len(model.F), dim_z=1)
    kalman.F, kalman.H, kalman.Q, kalman.R, kalman.P = model.F, model.H, model.Q, model.R, model.P.copy()
    for value in observations:
        kalman.update(value)
        kalman.predict()
    return (model.H @ kalman.x).item()


@given(actions=ACTIONS)
@settings(max_examples=50, deadline=None)
def test_a_prediction_is_filterpys_over_the_window(actions):
    model = constant_velocity(0.02, 0.05)
    own = ActionFilter([model] * 7, window=10)
    for action in actions:
        own.update(np.array(action))
    expected = [by_filterpy(model, column) for column in np.array(actions)[-10:].T]
    assert np.allclose(own.predict(), np.clip(expected, -1, 1), atol=1e-6)


@given(actions=ACTIONS, dimension=st.integers(0, 6), value=VALUES)
@settings(max_examples=50, deadline=None)
def test_a_dimension_never_reaches_another(actions, dimension, value):
    one, other = (ActionFilter([constant_velocity()] * 7) for _ in range(2))
    for action in np.array(actions):
        one.update(action)
        other.update(np.where(np.arange(7) == dimension, value, action))
    same = np.delete(np.arange(7), dimension)
    assert np.allclose(one.predict()[same], other.predict()[same])


def test_a_decay_of_one_without_noise_repeats_the_last_action():
    repeat = ActionFilter([decaying(1.0)] * 7)
    for action in np.linspace(-0.9, 0.9, 5):
        repeat.update(np.full(7, action))
    assert np.allclose(repeat.predict(), 0.9, atol=1e-6)


def test_events_begin_a_new_window():
    model = constant_velocity(0.02, 0.05)
    gated = ActionFilter([model] * 7, gate=0.5)
    for _ in range(6):
        gated.update(np.array([0.1] * 6 + [1.0]))
    gated.update(np.array([0.1] * 6 + [0.0]))  # the gripper closes
    assert np.allclose(gated.predict()[:6], by_filterpy(model, [0.1]), atol=1e-6)
    gated.update(np.array([0.9] * 6 + [0.0]))  # another direction
    assert np.allclose(gated.predict()[:6], by_filterpy(model, [0.9]), atol=1e-6)


def test_what_is_not_finite_is_forgotten():
    own = ActionFilter([decaying(1.0)] * 7)
    assert own.predict() is None
    own.update(np.zeros(7))
    own.update(np.full(7, np.nan))
    assert own.predict() is None


def test_seven_models_are_needed():
    with pytest.raises(ValueError, match="each of 7 dimensions"):
        ActionFilter([decaying(1.0)])


def test_the_longest_window_is_made_in_no_time():
    begin = time.process_time()
    ActionFilter([constant_velocity()] * 7, window=100)
    assert time.process_time() - begin < 2.0, "a decoder is replaced while the arm moves"
