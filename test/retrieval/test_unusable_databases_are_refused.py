# SPDX-License-Identifier: Apache-2.0
"""A database that is missing, empty, damaged, or made for another policy is refused in one sentence that says so."""

import json

import numpy as np
import pytest
from trajectories import ORIGIN, SENTENCES, entries, walks

from vla_sd_ros.retrieval import DatabaseError, TrajectoryDatabase
from vla_sd_ros.retrieval.index import EXACT_LIMIT


@pytest.fixture
def directory(database, tmp_path):
    database.save(tmp_path / "db")
    return tmp_path / "db"


def edit(directory, **changes):
    meta = json.loads((directory / "meta.json").read_text())
    (directory / "meta.json").write_text(json.dumps(meta | changes))


def refused(directory, said, **expected):
    with pytest.raises(DatabaseError, match=said) as caught:
        TrajectoryDatabase.load(directory, **expected)
    assert isinstance(caught.value, ValueError) and "\n" not in str(caught.value)
    assert "vla-sd build-db" in str(caught.value)


def test_a_missing_directory_and_one_cut_short_while_saving(directory, tmp_path):
    refused(tmp_path / "nowhere", "there is no trajectory database")
    (directory / "meta.json").unlink()
    refused(directory, "there is no trajectory database")


def test_one_of_another_feature_size(directory):
    refused(directory, "features of size 12, but the policy gives 192", feature_size=192)


def test_one_of_another_checkpoint(directory):
    refused(directory, "another checkpoint .some_policy, vision tower 0123456789abcdef, not fedcba", fingerprint="fedcba")


def test_one_of_another_format(directory):
    edit(directory, format=99)
    refused(directory, "format 99")


@pytest.mark.parametrize("text", ["{", "[]", "{}", "null"])
def test_a_damaged_meta_json(directory, text):
    (directory / "meta.json").write_text(text)
    refused(directory, "damaged")


@pytest.mark.parametrize("name", ["features", "actions", "upcoming", "episodes", "steps"])
def test_an_array_that_is_missing_or_of_another_shape(directory, name):
    with np.load(directory / "entries.npz") as file:
        arrays = dict(file)
    np.savez(directory / "entries.npz", **arrays | {name: arrays[name][:-1]})
    refused(directory, f"damaged .{name} has shape")
    del arrays[name]
    np.savez(directory / "entries.npz", **arrays)
    refused(directory, "damaged")


@pytest.mark.parametrize("place", [0, 100, 1500, 2900, -30])
def test_bytes_that_were_changed(directory, place):
    data = bytearray((directory / "entries.npz").read_bytes())
    data[place] ^= 0xFF
    (directory / "entries.npz").write_bytes(data)
    refused(directory, "damaged")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_file_cut_short(directory, share):
    data = (directory / "entries.npz").read_bytes()
    (directory / "entries.npz").write_bytes(data[: int(share * len(data))])
    refused(directory, "damaged")


def test_counts_that_do_not_add_up(directory):
    edit(directory, partitions=[{"instruction": SENTENCES[0], "entries": 40}])
    refused(directory, "damaged")


def test_an_empty_database_can_neither_be_made_nor_loaded(directory):
    rng = np.random.default_rng(0)
    with pytest.raises(DatabaseError, match="is empty"):
        TrajectoryDatabase({}, ORIGIN, [])
    nothing = entries(np.zeros((0, 12)), rng)
    np.savez(directory / "entries.npz", **{name: getattr(nothing, name) for name in nothing.__dataclass_fields__})
    edit(directory, entries=0, partitions=[])
    refused(directory, "is empty")


def test_a_graph_that_is_missing_or_damaged(tmp_path):
    rng = np.random.default_rng(0)
    size = 1024
    database = TrajectoryDatabase({"x": entries(walks(EXACT_LIMIT // size + 60, size, rng), rng)}, ORIGIN, [])
    database.save(tmp_path / "db")
    graph = tmp_path / "db" / "000.hnsw"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 0xFF
    graph.write_bytes(data)
    refused(tmp_path / "db", "000.hnsw has changed")
    graph.unlink()
    refused(tmp_path / "db", "damaged")
