# SPDX-License-Identifier: Apache-2.0
"""Episodes that `vla-sd collect` left are read: the labels, successes only, unless asked."""

import numpy as np
import pytest
from demonstration_files import write
from reading import read, refused, skipped

from vla_sd_ros.recordings import RecordingError, Recordings


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "demonstrations"
    write(root / "libero_object" / "task0" / "episode0000.npz", 0)
    write(root / "libero_object" / "task1" / "episode0000.npz", 1, instruction="pick up the salad dressing")
    write(root / "libero_object" / "task1" / "episode0001.npz", 2, success=False)
    np.savez(root / "libero_object" / "task1" / "episode0002.npz", success=False)
    return root


def test_images_labels_and_sentences_are_those_written(folder):
    _, [_, (episode, images)] = read(folder)
    assert [e.instruction for e, _ in read(folder)[1]] == ["pick up the milk", "pick up the salad dressing"]
    assert episode.name == str(folder / "libero_object" / "task1" / "episode0000.npz")
    assert episode.period == 0.2 and episode.success is True
    again = write(folder / "again.npz", 1)
    np.testing.assert_array_equal(images, again["images"])
    np.testing.assert_array_equal(episode.actions[:, :6], again["actions"][:, :6].astype(np.float32))


def test_failed_episodes_only_on_request_and_empty_attempts_never(folder):
    assert len(read(folder, include_failed=True)[1]) == 3
    assert len(skipped(folder, "task1/episode0001.npz", "--include-failed")) == 2


def test_a_damaged_episode_is_named_and_the_others_are_read(folder):
    task = folder / "libero_object" / "task0"
    (task / "episode0001.npz").write_bytes(b"PK\x03\x04 no more")
    whole = (task / "episode0000.npz").read_bytes()
    (task / "episode0002.npz").write_bytes(whole[: len(whole) // 2])
    for name in ("task0/episode0001.npz", "task0/episode0002.npz"):
        assert len(skipped(folder, name, "is not an episode of `vla-sd collect`, or damaged")) == 2


def test_a_single_file_is_a_source(folder):
    assert len(read(folder / "libero_object" / "task0" / "episode0000.npz")[1]) == 1


def test_a_folder_without_episodes_says_what_could_be_in_it(tmp_path):
    refused(tmp_path, "no episodes in .*vla-sd collect.*bags .*meta/info.json.*features.json")
    with pytest.raises(RecordingError, match="does not exist"):
        Recordings([tmp_path / "nowhere"])


PIXELS = np.zeros((5, 8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    "changes, said",
    [
        (
            {"images": PIXELS / 255.0},
            "has an image of shape (8, 8, 3) and type float64 at step 0, not (height, width, 3) and uint8",
        ),
        ({"images": PIXELS[..., 0]}, "has an image of shape (8, 8) and type uint8"),
        ({"images": PIXELS[..., [0, 1, 2, 0]]}, "has an image of shape (8, 8, 4)"),
        ({"images": PIXELS[:4]}, "has 5 actions, but 4 images"),
        ({"images": np.repeat(PIXELS, 2, axis=0)}, "has 5 actions, but 10 images"),
        ({"images": PIXELS[:0]}, "has 5 actions, but 0 images"),
        ({"actions": np.full((5, 7), "up")}, "which are no numbers"),
        ({"actions": np.float64(0.1)}, "is not an episode of `vla-sd collect`"),
        ({"instruction": np.array(["pick", "up"])}, "is not an episode of `vla-sd collect`"),
    ],
)
def test_what_does_not_fit_together_is_named_and_the_others_are_read(folder, changes, said):
    write(folder / "libero_object" / "task0" / "episode0009.npz", 9, **{"images": PIXELS, **changes})
    assert len(skipped(folder, "episode0009.npz", said)) == 2
