# SPDX-License-Identifier: Apache-2.0
"""Leave-one-out: with an episode excluded, a query finds what it would find had the episode never been there."""

import numpy as np
import pytest
from trajectories import ORIGIN, SENTENCES, entries, walks

from vla_sd_ros.retrieval import Entries, TrajectoryDatabase
from vla_sd_ros.retrieval.index import EXACT_LIMIT


@pytest.mark.parametrize("episode", range(4))
def test_no_neighbour_is_of_the_excluded_episode(database, episode):
    part = database.partitions[SENTENCES[0]]
    kept = part.episodes != episode
    without = TrajectoryDatabase(
        {SENTENCES[0]: Entries(*(getattr(part, name)[kept] for name in Entries.__dataclass_fields__))}, ORIGIN, []
    )
    for row in np.flatnonzero(~kept):
        found = database.query(part.features[row], SENTENCES[0], 5, exclude_episode=episode)
        expected = without.query(part.features[row], SENTENCES[0], 5)
        assert episode not in found.episodes
        np.testing.assert_array_equal(found.actions, expected.actions)
        np.testing.assert_allclose(found.similarity, expected.similarity, atol=1e-6)


def test_fewer_are_found_when_little_is_left():
    rng = np.random.default_rng(0)
    database = TrajectoryDatabase({"x": entries(rng.normal(size=(12, 4)), rng)}, ORIGIN, ["a", "b"])
    assert len(database.query(np.ones(4), "x", 5, exclude_episode=0)) == 2


def test_it_works_where_a_graph_is_used():
    rng = np.random.default_rng(0)
    size = 1024
    part = entries(walks(EXACT_LIMIT // size + 60, size, rng), rng, steps=30)
    database = TrajectoryDatabase({"x": part}, ORIGIN, [])
    assert database._graphs
    found = database.query(part.features[0], "x", 5, exclude_episode=0)
    assert len(found) == 5 and 0 not in found.episodes
    assert database.query(part.features[0], "x", 5).episodes[0] == 0
