# SPDX-License-Identifier: Apache-2.0
"""The fused metric's parts are what geometry says they are, in any plane, and its value is large when fast and straight."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vla_sd_ros.kinematics.fused_metric import STRAIGHT, FusedMetric, Range, circle_radius, path_length, spread_from_last

SEEDS = st.integers(0, 10_000)


@given(radius=st.floats(0.01, 2.0), arc=st.floats(0.3, 6.0), seed=SEEDS)
@settings(deadline=None)
def test_points_on_a_circle_give_its_radius_in_any_plane(radius, arc, seed):
    angles = np.linspace(0, arc, 15)
    circle = radius * np.column_stack((np.cos(angles), np.sin(angles), np.zeros(15)))
    points = Rotation.random(random_state=seed).apply(circle) + np.random.default_rng(seed).normal(size=3)
    assert circle_radius(points) == pytest.approx(radius, rel=1e-3)


@given(seed=SEEDS)
@settings(deadline=None)
def test_points_on_a_line_have_no_finite_radius(seed):
    rng = np.random.default_rng(seed)
    assert circle_radius(rng.normal(size=3) + np.linspace(0, 1, 15)[:, None] * rng.normal(size=3)) == STRAIGHT
    assert circle_radius(np.tile(rng.normal(size=3), (15, 1))) == STRAIGHT


def test_the_two_displacements():
    points = np.array([[0.0, 0, 0], [3, 0, 0], [3, 4, 0]])
    assert path_length(points) == 7 and spread_from_last(points) == 5 + 4


def metric(**options):
    return FusedMetric(Range(0.0, 0.5), Range(0.0, 0.4), window=5, **options)


def test_fast_and_straight_is_large_slow_and_tight_is_small():
    fast, slow = metric(), metric()
    for i in range(8):
        high = fast.update(np.array([0.1 * i, 0, 0]))
        low = slow.update(0.005 * np.array([np.cos(i), np.sin(i), 0]))
    assert high == pytest.approx(1.0) and low < 0.1


def test_alpha_weighs_radius_against_displacement():
    values = []
    for alpha in (0.0, 1.0):
        one = metric(alpha=alpha)
        values.append([one.update(np.array([0.01 * i, 0, 0])) for i in range(5)][-1])
    assert values == pytest.approx([0.04 / 0.4, 1.0])


def test_it_is_unknown_before_three_points_and_after_clearing():
    one = metric()
    assert np.isnan(one.update(np.zeros(3))) and np.isnan(one.update(np.ones(3))) and one.update(2 * np.ones(3)) > 0
    one.clear()
    assert np.isnan(one.update(np.zeros(3)))


def test_an_unknown_displacement_is_refused():
    with pytest.raises(ValueError, match="unknown displacement 'area'"):
        metric(definition="area")
