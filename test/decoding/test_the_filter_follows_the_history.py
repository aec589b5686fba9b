# SPDX-License-Identifier: Apache-2.0
"""A decoder's Kalman filter observes each step once, begins anew with a new goal, and is built only where it is used."""

import numpy as np
import pytest

from vla_sd_ros.decoding import factory, sources
from vla_sd_ros.decoding.history import History
from vla_sd_ros.decoding.settings import Settings
from vla_sd_ros.decoding.sources import KalmanFilter

IMAGE = np.zeros((32, 32, 3), np.uint8)
MOVING = Settings(kalman_model="constant_velocity", kalman_process=0.02, kalman_measurement=0.05)


def history_of(vla, actions) -> History:
    history = History(vla.statistics)
    for bins in actions:
        history.see(None)
        history.record(np.array(bins))
    return history


def test_step_by_step_is_as_all_at_once(vla):
    actions, kalman = np.random.default_rng(0).integers(0, 256, (14, 7)), KalmanFilter(MOVING)
    actions[:, 6] = 255
    history = history_of(vla, [])
    for bins in actions:
        history.record(bins)
        np.testing.assert_allclose(kalman.predict(history), KalmanFilter(MOVING).predict(history_of(vla, history.bins)))
    other = history_of(vla, actions[:2])
    np.testing.assert_allclose(kalman.predict(other), KalmanFilter(MOVING).predict(history_of(vla, actions[:2])))


def test_by_default_the_gripper_alone_begins_a_new_window(vla):
    far, near = [250] * 6, [10] * 6
    jumped = KalmanFilter(MOVING).predict(history_of(vla, [[*far, 255]] * 5 + [[*near, 255]]))
    closed = KalmanFilter(MOVING).predict(history_of(vla, [[*far, 255]] * 5 + [[*near, 0]]))
    alone = KalmanFilter(MOVING).predict(history_of(vla, [[*near, 0]]))
    np.testing.assert_allclose(closed, alone)
    assert np.abs(jumped[:6] - alone[:6]).min() > 0.05


def test_a_whole_history_costs_one_prediction(vla, monkeypatch):
    asked, original = [], sources.ActionFilter.predict
    monkeypatch.setattr(sources.ActionFilter, "predict", lambda own: asked.append(1) or original(own))
    KalmanFilter(Settings()).predict(history_of(vla, [[100] * 7] * 300))
    assert len(asked) == 1


@pytest.mark.parametrize(("drafts", "builds"), [(["last_action"], 0), (["kalman"], 1)])
def test_a_decoder_that_has_no_use_for_the_filter_builds_none(vla, monkeypatch, drafts, builds):
    built, original = [], sources.ActionFilter
    monkeypatch.setattr(sources, "ActionFilter", lambda *a: built.append(a) or original(*a))
    decoder = factory.make("prefill", vla, Settings(prefill_sources=drafts, kalman_window=100))
    assert not built
    for _ in range(3):
        decoder.decide(IMAGE, "pick up the milk", history_of(vla, [[100] * 7] * 3))
    assert len(built) == builds
