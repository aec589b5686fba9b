# SPDX-License-Identifier: Apache-2.0
"""A Qdrant server answers as the embedded database does; one that is silent costs one timeout and then nothing.

Runs in Qdrant's local mode, and on a server where QDRANT_TEST_URL names one.
"""

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from trajectories import ORIGIN, SENTENCES, entries

pytest.importorskip("qdrant_client", reason="needs the extra [fleet]")

from vla_sd_ros.retrieval import DatabaseError, DatabaseUnavailable, Origin, TrajectoryDatabase, open_database  # noqa: E402
from vla_sd_ros.retrieval.qdrant import QdrantDatabase  # noqa: E402

SERVER = os.environ.get("QDRANT_TEST_URL", "")
FINGERPRINT = ORIGIN.fingerprint


@pytest.fixture(params=[":memory:", "folder", *([SERVER] if SERVER else [])])
def location(request, tmp_path):
    return str(tmp_path / "qdrant") if request.param == "folder" else request.param


@pytest.fixture
def qdrant(location, database):
    there = QdrantDatabase(location, FINGERPRINT, timeout=5.0, prefix="vla_sd_test")
    there.upload(database)
    yield there
    for collection in there._client.get_collections().collections:
        if collection.name.startswith("vla_sd_test_"):
            there._client.delete_collection(collection.name)


@pytest.mark.parametrize("sentence", SENTENCES)
@pytest.mark.parametrize("exclude", [None, 1, 5])
def test_it_gives_the_same_neighbours(qdrant, database, sentence, exclude):
    rng = np.random.default_rng(0)
    for _ in range(5):
        features = rng.normal(size=12)
        found = qdrant.query(features, sentence, 5, exclude_episode=exclude)
        expected = database.query(features, sentence, 5, exclude_episode=exclude)
        for name in ("actions", "upcoming", "similarity", "episodes", "steps"):
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-5)
            assert getattr(found, name).dtype == getattr(expected, name).dtype


def test_an_unknown_instruction_finds_nothing(qdrant):
    assert len(qdrant.query(np.ones(12), "make coffee")) == 0


def test_features_of_another_size_are_refused(qdrant):
    with pytest.raises(DatabaseError, match="vectors of 12"):
        qdrant.query(np.ones(11), SENTENCES[0])


@pytest.mark.skipif(not SERVER, reason="no Qdrant server: set QDRANT_TEST_URL, e.g. to http://localhost:6333")
def test_collections_of_a_server_have_the_graph_of_the_paper(database):
    there = QdrantDatabase(SERVER, FINGERPRINT, timeout=5.0, prefix="vla_sd_graph")
    there.upload(database)
    names = [c.name for c in there._client.get_collections().collections if c.name.startswith(there.prefix)]
    assert len(names) == len(SENTENCES)
    for name in names:
        config = there._client.get_collection(name).config.hnsw_config
        assert (config.m, config.ef_construct) == (16, 100)
        there._client.delete_collection(name)


def test_verify_counts_and_refuses_what_does_not_fit(qdrant, database):
    assert qdrant.verify(12) == len(database)
    with pytest.raises(DatabaseError, match="features of size 12, but the policy gives 192"):
        qdrant.verify(192)


def test_another_upload_replaces_the_first(qdrant):
    rng = np.random.default_rng(1)
    smaller = TrajectoryDatabase({SENTENCES[0]: entries(rng.normal(size=(8, 12)), rng)}, ORIGIN, ["a"])
    qdrant.upload(smaller)
    assert len(qdrant.query(np.ones(12), SENTENCES[0], 100)) == 8


@pytest.mark.parametrize("location", ["folder", *([SERVER] if SERVER else [])], indirect=True)
def test_databases_of_two_checkpoints_do_not_meet(location, database):
    first = QdrantDatabase(location, FINGERPRINT, timeout=5.0, prefix="vla_sd_two")
    first.upload(database)
    with pytest.raises(DatabaseError, match="cannot be uploaded"):
        first.upload(TrajectoryDatabase(database.partitions, Origin("b", "fedcba"), database.episode_names))
    first._client.close()
    second = QdrantDatabase(location, "fedcba", timeout=5.0, prefix="vla_sd_two")
    with pytest.raises(DatabaseError, match=f"other checkpoints only .vision towers {FINGERPRINT}, not fedcba"):
        second.verify()
    assert len(second.query(np.ones(12), SENTENCES[0])) == 0
    for collection in second._client.get_collections().collections:
        if collection.name.startswith("vla_sd_two_"):
            second._client.delete_collection(collection.name)


def test_an_empty_server_is_refused():
    with pytest.raises(DatabaseError, match="no trajectory database of this checkpoint.*--qdrant"):
        QdrantDatabase(":memory:", FINGERPRINT).verify()


@pytest.fixture
def silent_server():
    """Accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_silent_server_costs_one_timeout_and_then_nothing(silent_server):
    there = QdrantDatabase(silent_server, FINGERPRINT, timeout=0.1)
    begin = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match="gives no answer .timed out.*check that it runs"):
        there.query(np.ones(12), SENTENCES[0])
    assert 0.1 <= time.monotonic() - begin < 1.0
    begin = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match="not asked again yet"):
        there.query(np.ones(12), SENTENCES[0])
    assert time.monotonic() - begin < 0.1


def test_a_server_that_is_not_there_is_one_sentence():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(DatabaseUnavailable, match="Connection refused") as caught:
        open_database(url, 12, FINGERPRINT)
    assert "\n" not in str(caught.value) and isinstance(caught.value, DatabaseError)


def test_it_is_asked_again_after_a_while(silent_server, monkeypatch):
    there = QdrantDatabase(silent_server, FINGERPRINT, timeout=0.05)
    for pause, said in ((0.0, "gives no answer"), (60.0, "gives no answer"), (60.0, "not asked again yet")):
        monkeypatch.setattr("vla_sd_ros.retrieval.qdrant.PAUSE", pause)
        with pytest.raises(DatabaseUnavailable, match=said):
            there.query(np.ones(12), SENTENCES[0])


@contextmanager
def answering(port: int = 0):
    """The port of a server in a process of its own, which is killed at the end."""
    command = [sys.executable, str(Path(__file__).with_name("answering.py")), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            yield int(server.stdout.readline())
        finally:
            server.kill()


def test_a_server_that_is_killed_between_two_queries_is_asked_again_after_a_pause(monkeypatch):
    monkeypatch.setattr("vla_sd_ros.retrieval.qdrant.PAUSE", 3.0)
    with answering() as port:
        there = QdrantDatabase(f"http://127.0.0.1:{port}", FINGERPRINT, timeout=2.0)
        assert there.query(np.ones(12), SENTENCES[0]).steps.tolist() == [4]
    killed = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match="gives no answer"):
        there.query(np.ones(12), SENTENCES[0])
    assert time.monotonic() - killed < 2.0
    with answering(port):
        with pytest.raises(DatabaseUnavailable, match="not asked again yet"):
            there.query(np.ones(12), SENTENCES[0])
        time.sleep(3.0)
        assert there.query(np.ones(12), SENTENCES[0]).steps.tolist() == [4]
