# SPDX-License-Identifier: Apache-2.0
"""The draft head's drafts: the median where acceptance is relaxed, the peak where it is exact, and its own doubt about them."""

import numpy as np
import pytest
from hypothesis import given, strategies
from hypothesis.extra.numpy import arrays

from vla_sd_ros.decoding.settings import Settings
from vla_sd_ros.decoding.sources import Knowledge

RADII = arrays(int, 7, elements=strategies.integers(0, 20))


class Head:
    """A policy of which only the draft head is asked."""

    draft_head = True

    def __init__(self, probabilities):
        self._probabilities = probabilities

    def draft(self, prompt):
        return self._probabilities


def knowledge(probabilities) -> Knowledge:
    return Knowledge(Head(probabilities), Settings(), None, None, None, "")


@given(strategies.integers(0, 2**32 - 1), RADII)
def test_the_draft_is_the_median_and_its_probability_that_of_the_bins_around_it(seed, radius):
    probabilities = np.random.default_rng(seed).dirichlet(np.full(256, 0.05), size=7)
    bins, within = knowledge(probabilities).head_marginals.within(radius.astype(float))
    for row, bin, reach, probability in zip(probabilities, bins, radius, within):
        if reach:
            assert row[:bin].sum() < 0.5 + 1e-9 and row[: bin + 1].sum() >= 0.5 - 1e-9
        else:
            assert bin == row.argmax()
        assert probability == pytest.approx(row[max(bin - reach, 0) : bin + reach + 1].sum(), abs=1e-9)


def test_a_head_of_nan_knows_nothing():
    knows = knowledge(np.full((7, 256), np.nan))
    assert knows.head_marginals is None and not len(knows.candidates("head")) and not len(knows.nearest("head"))
