# SPDX-License-Identifier: Apache-2.0
"""An episode written as raw serialized messages reads back with the same content, types and type hashes."""

import json

import pytest

from vla_sd_ros.recordings import rosbag
from vla_sd_ros.report import bag

pytest.importorskip("vla_sd_msgs", reason="vla_sd_msgs is not installed")


def test_messages_topics_and_types_come_back(episode_folder):
    topics = {}
    for topic, _, message in bag.read(episode_folder):
        topics.setdefault(topic, []).append(message)
    assert len(topics["/vla/image"]) == 10
    assert [message.step for message in topics["/vla/decode"]] == list(range(8))
    assert [message.state for message in topics["/vla/task_success"]] == [1, 2]


def test_ros2_bag_finds_its_metadata(episode_folder):
    from ruamel.yaml import YAML

    information = YAML(typ="safe").load((episode_folder / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert information["storage_identifier"] == "mcap"
    assert information["relative_file_paths"] == ["episode.mcap"]
    assert (episode_folder / "episode.mcap").read_bytes()[:5] == b"\x89MCAP"
    assert information["message_count"] == sum(1 for _ in bag.read(episode_folder))


def test_type_hashes_are_those_of_the_installed_interfaces():
    store = rosbag.typestore()
    for path in rosbag.message_folder().glob("*.json"):
        installed = {entry["type_name"]: entry["hash_string"] for entry in json.loads(path.read_text())["type_hashes"]}
        name = f"vla_sd_msgs/msg/{path.stem}"
        assert store.hash_rihs01(name) == installed[name]


def test_the_episode_has_steps_paths_and_success(episode_folder):
    episode = bag.read_episode(episode_folder)
    assert len(episode.images) == 10 and episode.images[0][1].shape == (32, 32, 3)
    assert [step.step for _, step in episode.steps] == list(range(8))
    assert episode.commanded.shape == (20, 4) and episode.measured.shape == (20, 4)
    assert episode.gripper[:, 1].tolist() == [1.0, 0.0]
    assert episode.success_time == pytest.approx(1.9)


def test_an_existing_bag_is_never_overwritten(episode_folder):
    from rosbags.rosbag2 import WriterError

    with pytest.raises(WriterError, match="exists already"):
        bag.EpisodeWriter(episode_folder, {})
