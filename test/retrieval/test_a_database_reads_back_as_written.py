# SPDX-License-Identifier: Apache-2.0
"""What is saved is loaded: entries, partitions, origin, names of the episodes, and the graphs, which are not built again."""

import json

import numpy as np
import pytest
from trajectories import ORIGIN, SENTENCES, entries, walks

from vla_sd_ros.retrieval import DatabaseError, Entries, TrajectoryDatabase, open_database
from vla_sd_ros.retrieval.index import EXACT_LIMIT, Graph


def test_entries_and_origin_come_back(database, tmp_path):
    database.save(tmp_path / "db")
    loaded = TrajectoryDatabase.load(tmp_path / "db", feature_size=12, fingerprint=ORIGIN.fingerprint)
    assert loaded.origin == ORIGIN and loaded.episode_names == database.episode_names and len(loaded) == 70
    assert list(loaded.partitions) == list(SENTENCES)
    for key, part in database.partitions.items():
        for name in Entries.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(loaded.partitions[key], name), getattr(part, name))
    features = np.arange(12) + 1.0
    np.testing.assert_array_equal(loaded.query(features, SENTENCES[1]).actions, database.query(features, SENTENCES[1]).actions)


def test_a_location_without_a_scheme_is_a_directory(database, tmp_path):
    database.save(tmp_path / "db")
    assert len(open_database(str(tmp_path / "db"), 12, ORIGIN.fingerprint)) == 70
    with pytest.raises(DatabaseError, match="another checkpoint"):
        open_database(tmp_path / "db", 12, "fedcba")


def test_meta_json_tells_a_person_what_is_in_it(database, tmp_path):
    database.save(tmp_path / "db")
    meta = json.loads((tmp_path / "db" / "meta.json").read_text())
    assert (meta["feature_size"], meta["entries"], meta["checkpoint"]) == (12, 70, "some_policy")
    assert meta["sources"] == ["demonstrations"]
    assert meta["partitions"][0] == {"instruction": SENTENCES[0], "entries": 40}


def test_graphs_come_back_without_being_built(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    size = 1024
    vectors = walks(EXACT_LIMIT // size + 60, size, rng)
    database = TrajectoryDatabase({"a": entries(vectors[:50], rng), "b": entries(vectors, rng)}, ORIGIN, [])
    database.save(tmp_path / "db")
    monkeypatch.setattr(Graph, "build", None)
    loaded = TrajectoryDatabase.load(tmp_path / "db")
    for query in vectors[::100]:
        np.testing.assert_array_equal(loaded.query(query, "b").actions, database.query(query, "b").actions)


def test_a_database_is_never_overwritten(database, tmp_path):
    database.save(tmp_path / "db")
    with pytest.raises(DatabaseError, match="already holds a trajectory database"):
        database.save(tmp_path / "db")
