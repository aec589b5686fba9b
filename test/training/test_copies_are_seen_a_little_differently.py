# SPDX-License-Identifier: Apache-2.0
"""Copies of an episode: all of its images changed in the same way, a little, another way for each copy, the same way each time."""

import numpy as np
import pytest
from policies import write_episodes, write_policy

from vla_sd_ros.cli import main
from vla_sd_ros.recordings import Episode
from vla_sd_ros.training import answers
from vla_sd_ros.training.variations import Copies


def episodes(count: int = 2) -> list[Episode]:
    rng = np.random.default_rng(0)
    smooth = np.kron(rng.integers(60, 190, (count, 3, 8, 8, 3)), np.ones((1, 1, 8, 8, 1))).astype(np.uint8)
    return [Episode([image[0], None, image[0]], np.full((3, 7), i, np.float32), "x", f"{i}") for i, image in enumerate(smooth)]


def test_the_recorded_come_first_and_each_copy_keeps_all_but_the_images():
    found = list(Copies(episodes(), 2))
    assert [episode.name for episode in found] == ["0", "1"] * 3
    assert [key[17:] for key, _ in answers.named(found)] == ["", "", "2", "2", "3", "3"]
    assert all(np.array_equal(found[i].actions, found[i % 2].actions) for i in range(6))


def test_images_of_a_copy_change_alike_and_a_little():
    recorded, copies = episodes()[0], [list(episode.images) for episode in Copies(episodes(1), 20)][1:]
    for first, hole, last in copies:
        assert hole is None and np.array_equal(first, last)  # the same picture twice
        assert first.dtype == np.uint8 and first.shape == recorded.images[0].shape
    distances = [np.abs(first.astype(float) - recorded.images[0]).mean() for first, *_ in copies]
    assert 1.0 < min(distances) and max(distances) < 60.0
    assert len({first.tobytes() for first, *_ in copies}) == 20


def test_they_are_the_same_each_time_and_differ_between_episodes():
    once, again = ([list(episode.images)[0] for episode in Copies(episodes(), 1)] for _ in range(2))
    assert all(map(np.array_equal, once, again))
    same = [Episode(episodes()[0].images, np.full((3, 7), i, np.float32), "x", "") for i in range(2)]
    first, second = (list(episode.images)[0] for episode in list(Copies(same, 1))[2:])
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("command", ["train-head", "train-drafter"])
def test_the_policy_is_asked_about_them(command, tmp_path, capsys):
    write_policy(tmp_path / "policy")
    write_episodes(tmp_path / "demonstrations")
    given = ["--checkpoint", str(tmp_path / "policy"), "--demonstrations", str(tmp_path / "demonstrations"), "--held-out", "3"]
    assert main([command, *given, "--copies", "2", "--steps", "3", "--batch-size", "4"]) == 0
    names = {path.stem for path in (tmp_path / "policy" / "answers").glob("[0-9a-f]*.npz")}
    recorded = {name for name in names if "_" not in name}
    assert recorded and names == {name + copy for name in recorded for copy in ("", "_2", "_3")}
