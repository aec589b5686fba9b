# SPDX-License-Identifier: Apache-2.0
"""Episodes that `vla-sd collect` left become episodes of the database: the labels, successes only, unless asked."""
import numpy as np
import pytest

from vla_sd_ros.retrieval import DatabaseError
from vla_sd_ros.retrieval.sources import Options, open_sources


def write(path, seed, success=True, **changes):
    """As sim/demonstrations.py saves one."""
    rng = np.random.default_rng(seed)
    arrays = {
        "images": rng.integers(0, 255, (5, 16, 16, 3)).astype(np.uint8), "actions": rng.uniform(-0.02, 0.02, (5, 7)),
        "executed": rng.uniform(-0.02, 0.02, (5, 7)), "instruction": "pick up the milk", "success": success,
    } | changes
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return arrays


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "demonstrations"
    write(root / "libero_object" / "task0" / "episode0000.npz", 0)
    write(root / "libero_object" / "task1" / "episode0000.npz", 1, instruction="pick up the salad dressing")
    write(root / "libero_object" / "task1" / "episode0001.npz", 2, success=False)
    np.savez(root / "libero_object" / "task1" / "episode0002.npz", success=False)
    return root


def test_images_labels_and_sentences_are_those_written(folder):
    (source,) = open_sources(folder)
    episodes = list(source)
    assert source.steps == 10
    assert [e.instruction for e in episodes] == ["pick up the milk", "pick up the salad dressing"]
    assert [e.name for e in episodes] == ["libero_object/task0/episode0000", "libero_object/task1/episode0000"]
    again = write(folder / "again.npz", 1)
    np.testing.assert_array_equal(episodes[1].images, again["images"])
    np.testing.assert_array_equal(episodes[1].actions, again["actions"])


def test_failed_episodes_only_on_request_and_empty_attempts_never(folder):
    (source,) = open_sources(folder, Options(include_failed=True))
    assert len(list(source)) == 3 and source.steps == 15


def test_a_damaged_episode_is_named(folder):
    (folder / "libero_object" / "task0" / "episode0001.npz").write_bytes(b"PK\x03\x04 no more")
    with pytest.raises(DatabaseError, match="episode0001.npz is not an episode"):
        open_sources(folder)


def test_a_folder_without_episodes_says_what_could_be_in_it(tmp_path):
    with pytest.raises(DatabaseError, match="no episodes in .*vla-sd collect.*metadata.yaml.*meta/info.json"):
        open_sources(tmp_path)
    with pytest.raises(DatabaseError, match="does not exist"):
        open_sources(tmp_path / "nowhere")
