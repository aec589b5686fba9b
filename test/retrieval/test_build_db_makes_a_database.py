# SPDX-License-Identifier: Apache-2.0
"""`vla-sd build-db` makes a database for a checkpoint's own features; what is wrong it says in one sentence."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from demonstration_files import write

from vla_sd_ros import policy
from vla_sd_ros.cli import main
from vla_sd_ros.retrieval import TrajectoryDatabase

BRIDGE = Path(__file__).parents[2] / ".." / "shared" / "data" / "bridge_dataset"


@pytest.fixture
def demonstrations(tmp_path):
    write(tmp_path / "demonstrations" / "episode0000.npz", 0)
    write(tmp_path / "demonstrations" / "episode0001.npz", 1, instruction="open the drawer")
    return tmp_path / "demonstrations"


def build(checkpoint, output, *arguments):
    return main(["build-db", "--checkpoint", str(checkpoint), "--output", str(output), *map(str, arguments)])


def test_the_database_knows_what_the_policy_sees(checkpoint, demonstrations, tmp_path, capsys):
    assert build(checkpoint, tmp_path / "db", "--source", demonstrations) == 0
    assert "10 steps of 2 episodes" in capsys.readouterr().out
    vla = policy.load(checkpoint, threads=1)
    database = TrajectoryDatabase.load(tmp_path / "db", feature_size=32, fingerprint=policy.fingerprint(checkpoint))
    with np.load(demonstrations / "episode0001.npz") as episode:
        found = database.query(vla.observe(episode["images"][3], "open the drawer").features.numpy(), "open the drawer", 2)
        np.testing.assert_allclose(found.actions[0], np.clip(episode["actions"][3], [-1] * 6 + [0], 1), atol=1e-6)
    assert found.similarity[0] == pytest.approx(1.0, abs=1e-5) and len(found) == 2
    meta = json.loads((tmp_path / "db" / "meta.json").read_text())
    assert meta["checkpoint"] == "tiny" and meta["sources"] == [str(demonstrations)]


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "nothing to do"),
        (["--source", "nowhere"], "nowhere does not exist"),
        (["--source", ".", "--gripper", "1", "1"], "two different values"),
        (["--qdrant", "http://127.0.0.1:9"], "there is no trajectory database"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(checkpoint, tmp_path, capsys, arguments, said):
    assert build(checkpoint, tmp_path / "db", *arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("vla-sd build-db: ") and said in lines[0]


def test_what_is_skipped_is_told_and_the_table_of_units_comes_first(checkpoint, demonstrations, tmp_path, capsys):
    write(demonstrations / "episode0002.npz", 2, success=False)
    (demonstrations / "episode0003.npz").write_bytes(b"PK")
    assert build(checkpoint, tmp_path / "db", "--source", demonstrations) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["x", "[m]"] and lines[1].startswith("recordings ") and lines[4].startswith("random ")
    assert any(line.startswith("1 skipped: ") and "episode0002.npz is not known to have succeeded" in line for line in lines)
    assert any(line.startswith("1 skipped: ") and "episode0003.npz is not an episode" in line for line in lines)
    assert lines[-1].startswith("10 steps of 2 episodes")


def test_recordings_of_another_rate_are_refused(checkpoint, demonstrations, tmp_path, capsys):
    assert build(checkpoint, tmp_path / "db", "--source", demonstrations, "--control-period", "0.05") == 2
    assert "have a step each 0.2 s, but the policy decides each 0.05 s" in capsys.readouterr().err


@pytest.mark.skipif(not BRIDGE.is_dir(), reason="the shard of BridgeData V2 is not beside the repository")
def test_a_database_of_the_real_bridge_shard(checkpoint, tmp_path, capsys):
    assert build(checkpoint, tmp_path / "db", "--source", BRIDGE, "--camera", "image_0", "--rate", 5) == 0
    assert "250 steps of 25 episodes" in capsys.readouterr().out
    assert len(TrajectoryDatabase.load(tmp_path / "db").partitions["put carrot on plate"]) == 80


def test_an_existing_database_is_refused_before_the_work(checkpoint, demonstrations, tmp_path, capsys):
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "meta.json").write_text("{}")
    assert build("no such checkpoint", tmp_path / "db", "--source", demonstrations) == 2
    assert "already holds" in capsys.readouterr().err


def test_upload_to_a_local_qdrant(checkpoint, demonstrations, tmp_path, capsys):
    pytest.importorskip("qdrant_client", reason="needs the extra [fleet]")
    assert build(checkpoint, tmp_path / "db", "--source", demonstrations, "--qdrant", tmp_path / "qdrant") == 0
    assert "10 steps in 2 collections vla_sd_" in capsys.readouterr().out


@pytest.mark.parametrize("module, wanted", [("pyarrow", "pyarrow: pip"), ("rosbags.highlevel", "rosbags: pip")])
def test_a_missing_library_is_named_with_the_way_to_get_it(checkpoint, tmp_path, monkeypatch, capsys, module, wanted):
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    if module == "pyarrow":
        action = {"dtype": "float32", "shape": [7]}
        info = {"codebase_version": "v2.1", "fps": 5, "features": {"camera": {"dtype": "image"}, "action": action}}
        (tmp_path / "source" / "meta").mkdir(parents=True)
        (tmp_path / "source" / "meta" / "info.json").write_text(json.dumps(info))
    else:
        (tmp_path / "source").mkdir()
        (tmp_path / "source" / "metadata.yaml").touch()
    assert build(checkpoint, tmp_path / "db", "--source", tmp_path / "source") == 2
    assert wanted in capsys.readouterr().err


def test_the_fingerprint_follows_the_vision_tower_alone(checkpoint, tmp_path):
    from safetensors.torch import load_file, save_file

    policy.write_random(tmp_path / "same", seed=0)
    policy.write_random(tmp_path / "other", seed=1)
    assert policy.fingerprint(tmp_path / "same") == policy.fingerprint(checkpoint) != policy.fingerprint(tmp_path / "other")
    path = tmp_path / "same" / "model.safetensors"
    weights = load_file(path)
    weights["projector.fc1.weight"] += 1.0
    save_file(weights, path)
    assert policy.fingerprint(tmp_path / "same") == policy.fingerprint(checkpoint)
    weights["vision_backbone.embed.weight"][0, 0] += 1.0
    save_file(weights, path)
    assert policy.fingerprint(tmp_path / "same") != policy.fingerprint(checkpoint)
    save_file({"projector.fc1.weight": weights["projector.fc1.weight"]}, path)
    with pytest.raises(policy.CheckpointError, match="no weights of a vision tower"):
        policy.fingerprint(tmp_path / "same")
