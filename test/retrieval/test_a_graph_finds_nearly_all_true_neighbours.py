# SPDX-License-Identifier: Apache-2.0
"""Above the size of an exact product a graph answers; at least 95 % of what it finds are the true nearest neighbours."""

import numpy as np
from trajectories import ORIGIN, entries, walks

from vla_sd_ros.retrieval import TrajectoryDatabase
from vla_sd_ros.retrieval.index import EXACT_LIMIT, Graph, exact

SIZE = 192
COUNT = EXACT_LIMIT // SIZE + 500


def test_recall_at_five_among_wandering_episodes():
    vectors = entries(walks(COUNT, SIZE, np.random.default_rng(0)), np.random.default_rng(0)).features
    asked = entries(walks(300, SIZE, np.random.default_rng(1)), np.random.default_rng(0)).features
    graph = Graph.build(vectors)
    hits = [len(set(graph.search(query, 5).tolist()) & set(exact(vectors, query, 5).tolist())) for query in asked]
    assert np.mean(hits) / 5 >= 0.95


def test_the_database_answers_through_it_in_descending_order():
    rng = np.random.default_rng(0)
    part = entries(walks(COUNT, SIZE, rng), rng)
    database = TrajectoryDatabase({"small": entries(walks(50, SIZE, rng), rng), "large": part}, ORIGIN, [])
    assert list(database._graphs) == ["large"]
    asked = walks(20, SIZE, np.random.default_rng(1))
    for query in asked:
        found = database.query(query, "large", 80)  # more than the search keeps by default
        assert len(found) == 80
        rows = 10 * found.episodes + found.steps
        np.testing.assert_allclose(found.similarity, part.features[rows] @ (query / np.linalg.norm(query)), atol=1e-5)
        assert (np.diff(found.similarity) <= 0).all()


def test_a_graph_beside_torch_leaves_its_threads_alone():
    import torch

    before = torch.get_num_threads()
    vectors = entries(walks(500, 32, np.random.default_rng(0)), np.random.default_rng(0)).features
    graph = Graph.build(vectors)
    matrix = torch.randn(200, 200)
    for query in vectors[:50]:
        assert torch.isfinite(matrix @ matrix).all()
        assert graph.search(query, 1).tolist() == exact(vectors, query, 1).tolist()
    assert torch.get_num_threads() == before
