# SPDX-License-Identifier: Apache-2.0
"""RLDS datasets in tfrecords are read without TensorFlow: a real shard of BridgeData V2, and small ones made here."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from reading import read, refused, skipped

pytest.importorskip("google.protobuf", reason="needs the extra [data]")
pytest.importorskip("crc32c", reason="needs the extra [data]")

from tfds_files import episode, layout, picture, tensor, write  # noqa: E402

from vla_sd_ros.recordings import Inventory, Options, Recordings  # noqa: E402

BRIDGE = Path(__file__).parents[2] / ".." / "shared" / "data" / "bridge_dataset"
real = pytest.mark.skipif(not BRIDGE.is_dir(), reason="the shard of BridgeData V2 is not beside the repository")


def test_images_actions_and_sentences_are_those_written(tmp_path):
    root = write(tmp_path / "mine" / "1.0.0", [episode(i) for i in range(4)], shards=2)
    _, episodes = read(tmp_path)
    assert [e.name.rsplit("/", 1)[-1] for e, _ in episodes] == [
        f"mine-train.tfrecord-0000{shard}-of-00002#{i}" for shard in range(2) for i in range(2)
    ]
    found, images = episodes[1]
    assert found.name.startswith(str(root)) and found.instruction == "open the drawer" and found.success is None
    assert found.period is None and found.stamps is None
    np.testing.assert_allclose(found.actions, episode(2)["steps/action"].reshape(-1, 7), atol=1e-7)
    assert [int(image[0, 0, 0]) for image in images] == [20, 21, 22, 23]
    assert "tensorflow" not in sys.modules


def test_units_rate_and_stride_are_those_of_the_options(tmp_path):
    write(tmp_path, [episode(0)])
    ((found, images),) = read(tmp_path, stride=2, rate=10.0, action_scale=(0.5, 0.5), gripper=(1.0, 0.0))[1]
    np.testing.assert_allclose(found.actions[:, 0], [0.005, 0.025], atol=1e-7)
    assert found.actions[:, 6].tolist() == [0.0, 0.0] and [int(image[0, 0, 0]) for image in images] == [0, 2]
    assert found.period == 0.2 and found.stamps.tolist() == [0.0, 0.2]


def test_a_reward_is_success(tmp_path):
    write(tmp_path, [episode(0, **{"steps/reward": np.array([0.0, 0.0, 0.0, 1.0])})])
    assert read(tmp_path)[1][0][0].success is True


def test_a_reward_that_is_no_number_says_nothing(tmp_path):
    write(tmp_path, [episode(0, **{"steps/reward": [b"1.0"] * 4})])
    assert read(tmp_path)[1][0][0].success is None


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"steps/action": np.zeros(27)}, "has 27 numbers as actions, which are not seven a step"),
        ({"steps/action": np.zeros(0)}, "has 0 actions, but 4 images"),
        ({"steps/action": np.full(28, np.nan)}, "has an action that is not finite, at step 0"),
        ({"steps/observation/image_0": [picture(1)]}, "has 4 actions, but 1 images of steps/observation/image_0"),
        ({"steps/observation/image_0": [picture(1)] * 4}, "has one and the same picture in all steps"),
        ({"steps/observation/image_0": [picture(1), b"none", b"no", b"nono"]}, "has a picture that cannot be read"),
        ({"steps/language_instruction": [b""] * 4}, "has no instruction, which says what it demonstrates: give --instruction"),
        ({"steps/language_instruction": []}, "has no instruction"),
        ({"steps/language_instruction": np.arange(4)}, "has numbers as its instruction"),
        ({"steps/observation/image_0": np.arange(4)}, "has numbers as pictures of steps/observation/image_0"),
    ],
)
def test_an_episode_that_cannot_be_right_is_named_and_the_others_are_read(tmp_path, changes, said):
    write(tmp_path, [episode(0), episode(1, **changes), episode(2)])
    assert [name[-2:] for name in skipped(tmp_path, "00001#1", said)] == ["#0", "#2"]


def test_a_damaged_or_missing_part_costs_no_more_than_itself(tmp_path):
    write(tmp_path, [episode(i) for i in range(6)], shards=2)
    shard = tmp_path / "mine-train.tfrecord-00000-of-00002"
    whole = shard.read_bytes()
    size = len(whole) // 3
    shard.write_bytes(whole[: size + 500] + b"x" + whole[size + 501 :])
    others = skipped(tmp_path, "00000-of-00002#1", "has a wrong checksum: download it again")
    assert [name[-10:] for name in others] == [f"{i}-of-00002#{j}"[-10:] for i, j in ((0, 0), (0, 2), (1, 0), (1, 1), (1, 2))]
    shard.write_bytes(whole[: 2 * size + 100])
    assert len(skipped(tmp_path, "00000-of-00002", "is cut short, after 2 episodes")) == 5
    shard.write_bytes(whole[: 2 * size] + b"nonsense" + whole[2 * size :])
    skipped(tmp_path, "00000-of-00002", "after 2 episodes: download it again")
    shard.unlink()
    assert len(skipped(tmp_path, "00000-of-00002", "is not there: download it again")) == 3


def test_cameras_and_actions_must_be_named_where_there_are_several_or_none_fits(tmp_path):
    write(tmp_path, [episode(0)], layout(("image_0", "wrist")))
    refused(tmp_path, "the cameras image_0, wrist: name the one that the policy is used to with --camera")
    assert len(read(tmp_path, camera="image_0")[1]) == 1
    refused(
        tmp_path,
        "actions 'actions' are not there.*--action; of shape .7,. are action, observation/state",
        camera="image_0",
        action="actions",
    )
    write(tmp_path, [episode(0)], layout(action=tensor(8)))
    refused(tmp_path, r"actions 'action' are of shape \(8,\), and end-effector deltas .* are needed")
    write(tmp_path, [episode(0)], layout(action=tensor(7, encoding="zlib")))
    refused(tmp_path, "has packed its actions .zlib.: write it again without an encoding")


def test_what_is_no_dataset_of_episodes_says_so(tmp_path):
    write(tmp_path, [episode(0)], kind="array_record")
    refused(tmp_path, "is stored as array_record: convert it with `tfds convert_format")
    write(tmp_path, [episode(0)], {"featuresDict": {"features": {"label": tensor()}}})
    refused(tmp_path, "is a TFDS dataset without steps, so of no robot's episodes")
    for text in ("{", '{"featuresDict": 1}', json.dumps(layout(action={"tensor": {"shape": {"dimensions": ["x"]}}}))):
        (tmp_path / "features.json").write_text(text)
        refused(tmp_path, "is a TFDS dataset that cannot be read .*: download it again")
    write(tmp_path, [episode(0)])
    next(tmp_path.glob("mine-*")).unlink()
    refused(tmp_path, "is a TFDS dataset without a file of episodes")


@pytest.mark.parametrize("module, wanted", [("google.protobuf", "protobuf: pip"), ("crc32c", "crc32c: pip")])
def test_a_missing_library_is_named_with_the_way_to_get_it(tmp_path, monkeypatch, module, wanted):
    from vla_sd_ros.recordings import tfrecord

    write(tmp_path, [episode(0)])
    tfrecord.example_class.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    refused(tmp_path, wanted)


@real
def test_the_real_shard_of_bridge_is_25_episodes_of_4_sentences():
    refused(BRIDGE, "the cameras image_0, image_1, image_2, image_3: name")
    recordings, episodes = read(BRIDGE, camera="image_0")
    assert len(episodes) == 25 and recordings.skipped == {}
    assert {len(images) for _, images in episodes} == {10} and {images[0].shape for _, images in episodes} == {(64, 64, 3)}
    assert {e.instruction for e, _ in episodes} == {
        "put carrot on plate",
        "turn lever vertical to front",
        "flip pot upright which is in sink",
        "put cup from counter or drying rack into sink",
    }
    assert all(np.std([image.mean() for image in images]) > 0 for _, images in episodes)


@real
def test_the_real_shards_units_are_those_of_bridge_orig():
    inventory = Inventory.of(Recordings([BRIDGE], Options(camera="image_1", rate=5.0)))
    inventory.check_rate(0.2)
    low, high = np.quantile(inventory.actions[:, :6], (0.01, 0.99), axis=0)
    assert (np.maximum(-low, high) < [0.05] * 3 + [0.25] * 3).all() and (high - low > 0.01).all()
    assert inventory.actions[:, 6].min() < 0.1 and inventory.actions[:, 6].max() == 1.0


@real
def test_a_camera_that_was_not_there_is_told():
    refused(
        BRIDGE,
        "none .* 25 skipped: .*: each has one and the same picture in all steps of .*image_3, a placeholder",
        camera="image_3",
    )
