# SPDX-License-Identifier: Apache-2.0
"""A query gives the entries of the largest cosine, in descending order, whatever the length of the vector asked with."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trajectories import ORIGIN, SENTENCES, entries

from vla_sd_ros.retrieval import DatabaseError, TrajectoryDatabase


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 60),
    size=st.integers(2, 24),
    k=st.integers(1, 70),
    length=st.floats(1e-3, 1e3),
    repeated=st.booleans(),
)
def test_a_query_equals_brute_force(seed, count, size, k, length, repeated):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, size))
    if repeated:
        vectors[count // 2 :] = vectors[0]
    part = entries(vectors, rng)
    database = TrajectoryDatabase({"x": part}, ORIGIN, ["e"] * count)
    asked = rng.normal(size=size)

    found = database.query(length * asked, "x", k)

    cosine = [float(np.dot(v, asked) / np.linalg.norm(v) / np.linalg.norm(asked)) for v in vectors]
    assert len(found) == min(k, count)
    np.testing.assert_allclose(found.similarity, sorted(cosine, reverse=True)[:k], atol=1e-5)
    for action, upcoming, similarity, episode, step in zip(
        found.actions, found.upcoming, found.similarity, found.episodes, found.steps
    ):
        row = 10 * episode + step
        assert similarity == pytest.approx(cosine[row], abs=1e-5)
        np.testing.assert_array_equal(action, part.actions[row])
        np.testing.assert_array_equal(upcoming, part.upcoming[row])
    assert len({(e, s) for e, s in zip(found.episodes.tolist(), found.steps.tolist())}) == len(found)


def test_an_entry_finds_itself_first(database):
    part = database.partitions[SENTENCES[0]]
    for row in range(len(part)):
        found = database.query(3.0 * part.features[row], SENTENCES[0], 3)
        assert (found.episodes[0], found.steps[0]) == (part.episodes[row], part.steps[row])
        assert found.similarity[0] == pytest.approx(1.0, abs=1e-6)
        assert found.actions.shape == (3, 7) and found.upcoming.shape == (3, 3, 7)


@pytest.mark.parametrize(
    "features, said",
    [
        (np.ones(11), r"shape \(11,\).* vectors of 12"),
        (np.zeros(12), "zero or not finite"),
        (np.full(12, np.nan), "zero or not finite"),
        (np.full(12, np.inf), "zero or not finite"),
    ],
)
def test_features_that_cannot_be_compared_are_refused(database, features, said):
    with pytest.raises(DatabaseError, match=said):
        database.query(features, SENTENCES[0])
