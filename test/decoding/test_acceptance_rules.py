# SPDX-License-Identifier: Apache-2.0
"""Each acceptance rule keeps what a plain reading of its definition keeps, on trees of any shape."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vla_sd_ros.decoding.acceptance import Relaxed, SequenceWise, exact
from vla_sd_ros.decoding.methods.heisd import recombined
from vla_sd_ros.decoding.speculative import accept
from vla_sd_ros.policy.draft import Draft, merge

TOKENS = st.integers(0, 12)


@st.composite
def judged(draw):
    """A draft of the dimensions first .. 5, the verifier's opinions, and first."""
    first = draw(st.integers(0, 5))
    width = 6 - first
    chains = draw(st.lists(st.lists(TOKENS, min_size=width, max_size=width), min_size=1, max_size=5))
    draft = merge(np.array(chains))
    opinions = np.array(draw(st.lists(TOKENS, min_size=len(draft) + 1, max_size=len(draft) + 1)))
    return draft, opinions, first


def brute_force(draft: Draft, opinions, first, stands) -> int:
    """The longest prefix of any path on which stands(biases, first) is true of the prefix."""
    longest = 0
    for row in draft.shape.paths:
        path = row[row >= 0]
        biases = [abs(int(draft.bins[n]) - int(opinions[draft.parents[n] + 1])) for n in path]
        for count in range(1, len(path) + 1):
            if stands(biases[:count], first, len(path)):
                longest = max(longest, count)
    return longest


def check(case, rule, stands):
    draft, opinions, first = case
    path = accept(draft, opinions, first, rule)
    assert len(path) == brute_force(draft, opinions, first, stands)
    parents = [-1, *path][: len(path)]
    assert [int(draft.parents[node]) for node in path] == parents


@given(judged())
def test_exact(case):
    check(case, exact, lambda biases, first, length: max(biases) == 0)


@given(judged(), st.lists(st.integers(0, 6), min_size=7, max_size=7))
def test_relaxed_in_each_dimension(case, radius):
    def stands(biases, first, length):
        return all(bias <= radius[first + i] for i, bias in enumerate(biases))

    check(case, Relaxed(np.array(radius)), stands)


@given(judged(), st.integers(0, 8), st.integers(0, 16))
def test_sequence_wise_takes_whole_groups(case, largest, total):
    def stands(biases, first, length):
        if first + len(biases) not in (3, 6):
            return False
        groups = [[b for i, b in enumerate(biases) if low <= first + i < low + 3] for low in (0, 3)]
        return all(max(group) <= largest and sum(group) <= total for group in groups if group)

    check(case, SequenceWise(largest, total), stands)


def test_the_gripper_is_never_relaxed_sequence_wise():
    rule = SequenceWise(15, 30)
    assert rule(np.array([[5, 5, 5, 5, 5, 5, 0]]), np.array([[5, 5, 5, 5, 5, 5, 1]]), 0).tolist() == [6]
    assert rule(np.array([[5, 5, 5, 5, 5, 5, 1]]), np.array([[5, 5, 5, 5, 5, 5, 1]]), 0).tolist() == [7]


def test_the_first_of_equally_long_paths_is_taken():
    draft = merge(np.array([[3, 1], [3, 2]]))
    assert accept(draft, np.array([3, 9, 9, 9]), 0, Relaxed(np.full(7, 20))) == [0, 1]


@given(st.integers(1, 5))
def test_recombining_pairs_each_position_with_each_rotation(k):
    candidates = np.arange(k)[:, None] * np.ones(7, dtype=int)
    pairs = {(int(row[0]), int(row[3])) for row in recombined(candidates)}
    assert pairs == {(i, j) for i in range(k) for j in range(k)}
    assert np.array_equal(recombined(candidates)[:k], candidates)
