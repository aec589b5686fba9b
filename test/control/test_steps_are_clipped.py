# SPDX-License-Identifier: Apache-2.0
"""No step is longer than its limits, whatever comes in, and its direction is kept; targets stay in the workspace."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from strategies import vectors

from vla_sd_ros.control.clipping import clip_position, clip_step


@given(vectors(1e300), vectors(np.pi), st.floats(0.001, 0.2), st.floats(0.005, 1.0))
def test_no_step_is_longer_than_its_limits(translation, rotation, longest, largest):
    step = clip_step(np.concatenate([translation, rotation]), longest, largest)
    assert np.linalg.norm(step[:3]) <= longest * (1.0 + 1e-12)
    assert np.linalg.norm(step[3:]) <= largest * (1.0 + 1e-12)


@given(vectors(1.0), st.floats(0.001, 0.2))
def test_the_direction_is_kept_and_a_short_step_is_untouched(translation, longest):
    step = clip_step(np.concatenate([translation, np.zeros(3)]), longest, 1.0)[:3]
    length = np.linalg.norm(translation)
    if length <= longest:
        np.testing.assert_array_equal(step, translation)
    else:
        np.testing.assert_allclose(step, translation * (longest / length), rtol=1e-9, atol=1e-12)


@given(vectors(2.0), vectors(0.5))
def test_a_target_of_an_arm_inside_the_box_is_inside(position, here):
    low, high = np.full(3, -0.5), np.full(3, 0.5)
    clipped = clip_position(position, here, low, high)
    assert np.all(clipped >= low) and np.all(clipped <= high)


@given(vectors(2.0), vectors(2.0))
def test_a_target_of_an_arm_outside_the_box_is_no_farther_out_and_clipping_never_moves_the_arm(position, here):
    low, high = np.full(3, -0.5), np.full(3, 0.5)
    clipped = clip_position(position, here, low, high)
    outside = np.maximum(low - here, here - high).clip(0.0)
    assert np.all(np.maximum(low - clipped, clipped - high) <= outside + 1e-12)
    np.testing.assert_array_equal(clip_position(here, here, low, high), here)
