# SPDX-License-Identifier: Apache-2.0
"""`vla-sd export`: what it writes reads back as what it was, by our reader and by lerobot's own."""

import json

import numpy as np
import pytest

for library in ("rosbags", "vla_sd_msgs", "pyarrow"):
    pytest.importorskip(library, reason="needs the extra [data] and vla_sd_msgs")

import demonstration_files  # noqa: E402
from test_every_kind_gives_the_same_database import as_bag, as_demonstrations  # noqa: E402

from vla_sd_ros.cli import main  # noqa: E402
from vla_sd_ros.recordings import Recordings, export  # noqa: E402


def exported(tmp_path, *more):
    return main(["export", "--source", str(tmp_path / "source"), "--output", str(tmp_path / "dataset"), *more])


def same(one, other):
    for a, b in zip(Recordings([one]), Recordings([other]), strict=True):
        assert (a.instruction, a.success, a.period) == (b.instruction, b.success, pytest.approx(b.period))
        np.testing.assert_array_equal(a.actions, b.actions)
        for first, second in zip(a.images, b.images, strict=True):
            np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("write", [as_demonstrations, as_bag])
def test_it_reads_back_as_what_it_was(tmp_path, capsys, write, monkeypatch):
    monkeypatch.setattr(export, "FILE_SIZE", 1.0)  # a file for each episode
    write(tmp_path / "source")
    assert exported(tmp_path) == 0
    assert "10 steps of 2 episodes with 1 sentences" in capsys.readouterr().out
    assert len(list((tmp_path / "dataset" / "data").rglob("*.parquet"))) == 2
    same(tmp_path / "source", tmp_path / "dataset")


def test_lerobot_opens_it(tmp_path):
    lerobot = pytest.importorskip("lerobot.datasets.lerobot_dataset", reason="lerobot is not installed, nor needed")
    as_demonstrations(tmp_path / "source")
    assert exported(tmp_path) == 0
    dataset = lerobot.LeRobotDataset("me/mine", root=tmp_path / "dataset")
    assert (len(dataset), dataset.num_episodes, dataset.fps) == (10, 2, 5)
    own = [(episode, list(episode.images)) for episode in Recordings([tmp_path / "source"])]
    for i in range(10):
        frame, (episode, images) = dataset[i], own[i // 5]
        np.testing.assert_allclose(frame["action"].numpy(), episode.actions[i % 5])
        np.testing.assert_allclose(frame["observation.images.camera"].permute(1, 2, 0).numpy() * 255, images[i % 5], atol=0.5)
        assert frame["task"] == episode.instruction and int(frame["episode_index"]) == i // 5


def test_what_cannot_be_exported_is_named(tmp_path, capsys):
    as_demonstrations(tmp_path / "source")
    demonstration_files.write(tmp_path / "source" / "episode9999.npz", 9)  # of another size
    assert exported(tmp_path) == 0
    assert "1 skipped: " in (said := capsys.readouterr().out) and "has images of 16 x 16, most others 10 x 8" in said
    assert json.loads((tmp_path / "dataset" / "meta" / "info.json").read_text())["total_episodes"] == 2
    assert exported(tmp_path) == 2
    assert "dataset exists already: give another --output" in (said := capsys.readouterr().err) and said.count("\n") == 1


def test_memory_holds_one_episode(tmp_path):
    """What has been written of earlier episodes is no more than their numbers."""
    as_demonstrations(tmp_path / "source")
    exporter = export.Exporter(tmp_path / "dataset", 5.0, True, (8, 10, 3))
    for episode in Recordings([tmp_path / "source"]):
        exporter.add(episode)
    assert len(json.dumps(exporter.episodes[-1])) < 5000
    exporter.close()


def test_one_of_another_size_does_not_decide_for_the_others_wherever_it_stands(tmp_path, capsys):
    as_demonstrations(tmp_path / "source")
    demonstration_files.write(tmp_path / "source" / "a" / "episode0000.npz", 9)  # read first
    assert exported(tmp_path) == 0
    assert "10 steps of 2 episodes" in (said := capsys.readouterr().out) and "has images of 16 x 16, most others 10 x 8" in said


def test_where_nothing_can_be_exported_it_says_why(tmp_path, capsys):
    whole = demonstration_files.write(tmp_path / "source" / "episode0000.npz", 0)
    np.savez(tmp_path / "source" / "episode0000.npz", **{**whole, "images": whole["images"] / 255.0})
    assert exported(tmp_path) == 2
    said = capsys.readouterr().err
    assert "none of the recordings can be exported: 1 skipped: " in said and "type float64" in said
