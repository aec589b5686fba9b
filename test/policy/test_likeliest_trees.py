# SPDX-License-Identifier: Apache-2.0
"""The tree of the most probable beginnings is what sorting all of them gives, each after its parent."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vla_sd_ros.policy.draft import likeliest


def beginnings(draft) -> list[tuple[int, ...]]:
    """The tokens from the root to each node."""
    found = []
    for token, parent in zip(draft.bins.tolist(), draft.parents.tolist()):
        found.append((*(found[parent] if parent >= 0 else ()), token))
    return found


@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 40), st.integers(0, 2**31))
def test_it_has_the_most_probable_ones(length, width, nodes, seed):
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(width), size=length)
    every = [p for n in range(1, length + 1) for p in itertools.product(range(width), repeat=n)]
    worth = {p: float(np.prod([probabilities[i, token] for i, token in enumerate(p)])) for p in every}
    draft = likeliest(probabilities, nodes)
    found = beginnings(draft)
    assert len(found) == len(set(found)) == min(nodes, len(every))
    best = sorted(worth.values(), reverse=True)[: len(found)]
    np.testing.assert_allclose([worth[p] for p in found], best)
    assert all(parent < node for node, parent in enumerate(draft.parents))


def test_no_probability_is_no_trouble():
    assert len(likeliest(np.zeros((6, 256)), 12)) == 12
