# SPDX-License-Identifier: Apache-2.0
"""Bags of our recorder and of `ros2 bag record` become episodes, one a goal: each action with the image it came from."""
import json

import cv2
import numpy as np
import pytest

pytest.importorskip("rosbags", reason="needs the extra [data]")
pytest.importorskip("vla_sd_msgs", reason="vla_sd_msgs is not installed")

from rosbags.rosbag2 import StoragePlugin, Writer  # noqa: E402

from vla_sd_ros.report.bag import EPISODE_TOPICS, EpisodeWriter, typestore  # noqa: E402
from vla_sd_ros.retrieval import DatabaseError  # noqa: E402
from vla_sd_ros.retrieval.sources import Options, open_sources  # noqa: E402

START = 1_700_000_000_000_000_000  # [ns]
STORE = typestore()
KINDS = {topic.name: topic.type for topic in EPISODE_TOPICS} | {"image/compressed": "sensor_msgs/msg/CompressedImage"}


def picture(value):
    return np.full((8, 10, 3), value, np.uint8)


def action(goal, step):
    return np.array([0.01 * step, -0.02, 0.001 * goal, 0.1, 0.0, -0.1, step % 2], np.float32)


class Messages:
    """Writes messages at times [s] into a bag."""

    def __init__(self, write):
        self.store, self.write = STORE, write

    def make(self, kind, **fields):
        return self.store.types[kind](**fields)

    def header(self, time):
        stamp = START + round(time * 1e9)
        stamp = self.make("builtin_interfaces/msg/Time", sec=stamp // 10**9, nanosec=stamp % 10**9)
        return self.make("std_msgs/msg/Header", stamp=stamp, frame_id="")

    def add(self, name, time, **fields):
        data = self.store.serialize_cdr(self.make(KINDS[name], **fields), KINDS[name])
        self.write(name, START + round(time * 1e9), bytes(data))

    def image(self, time, value, delay=0.01):
        self.add("image", time + delay, header=self.header(time), height=8, width=10, encoding="rgb8", is_bigendian=0,
                 step=30, data=picture(value).ravel())

    def compressed(self, time, value):
        data = cv2.imencode(".png", picture(value))[1].ravel()
        self.add("image/compressed", time + 0.01, header=self.header(time), format="png", data=data)

    def success(self, time, state):
        self.add("task_success", time, header=self.header(time), instruction="", state=state, message="")

    def goal_id(self, goal):
        return self.make("unique_identifier_msgs/msg/UUID", uuid=np.full(16, goal, np.uint8))

    def command(self, time, goal, step, hold=False):
        values = [float(value) for value in action(goal, step)]
        vector = [dict(zip("xyz", values[i : i + 3])) for i in (0, 3)]
        translation, rotation = (self.make("geometry_msgs/msg/Vector3", **v) for v in vector)
        self.add(
            "command", time + 0.05, header=self.header(time), goal_id=self.goal_id(goal), step=step, hold=hold,
            translation=translation, rotation=rotation, gripper=values[6],
            period=self.make("builtin_interfaces/msg/Duration", sec=0, nanosec=200_000_000),
        )

    def decode(self, time, goal, step):
        self.add(
            "decode", time + 0.05, header=self.header(time), goal_id=self.goal_id(goal), step=step, decoder="", path="",
            bins=np.zeros(7, np.uint8), action=action(goal, step), accepted_length=0, forward_passes=7, threshold=0.0,
            fused_metric=0.0, vision_ms=0.0, prefill_ms=0.0, draft_ms=0.0, decode_ms=0.0, total_ms=0.0,
            image_to_command_ms=0.0,
        )


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run" / "episode"


@pytest.fixture
def recorded(folder):
    """Our recorder's bag: goal 1 succeeds; goal 2, of another sentence, does not; images at 10 Hz, steps at 5 Hz."""
    folder.parent.mkdir()
    topics = {f"/vla/{topic.name}": topic for topic in EPISODE_TOPICS if not topic.name.startswith("/")}
    writer = EpisodeWriter(folder, topics)
    messages = Messages(lambda name, stamp, data: writer.write(f"/vla/{name}", stamp, data))
    messages.success(0.0, 1)
    for goal, begin in ((1, 0.0), (2, 10.0)):
        messages.add("task_instruction", begin, data=f"sentence {goal}")
        for i in range(12):
            messages.image(begin + 0.1 * i, 10 * goal + i)
            if i % 2 == 0:
                messages.command(begin + 0.1 * i, goal, i // 2)
                messages.decode(begin + 0.1 * i, goal, i // 2)
        messages.command(begin + 1.2, goal, 6, hold=True)
        if goal == 1:
            messages.success(begin + 1.3, 2)
    writer.close()
    return folder


def read(folder, **options):
    (source,) = open_sources(folder, Options(**options))
    return source, [(e, list(e.images)) for e in source]


def test_a_successful_goal_has_its_steps_with_their_images(recorded):
    source, [(episode, images)] = read(recorded)
    assert source.steps == 12 and episode.instruction == "sentence 1" and episode.name == f"{recorded}#0"
    np.testing.assert_allclose(episode.actions, [action(1, step) for step in range(6)], atol=1e-7)
    for step, image in enumerate(images):
        np.testing.assert_array_equal(image, picture(10 + 2 * step))


def test_goals_that_failed_only_on_request(recorded):
    _, [_, (episode, images)] = read(recorded, include_failed=True)
    assert episode.instruction == "sentence 2" and len(episode.actions) == 6
    np.testing.assert_array_equal(images[5], picture(20 + 10))


def test_the_runs_summary_and_then_the_option_say_what_was_asked_for(recorded):
    (recorded.parent / "summary.json").write_text(json.dumps({"instruction": "the goal's own sentence"}))
    assert read(recorded)[1][0][0].instruction == "the goal's own sentence"
    assert read(recorded, instruction="mine")[1][0][0].instruction == "mine"


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_a_bag_of_ros2_bag_with_other_names_and_compressed_images(folder, storage):
    folder.parent.mkdir()
    names = {"image/compressed": "/wrist/image/compressed", "decode": "/arm2/decode"}
    with Writer(folder, version=9, storage_plugin=storage) as writer:
        connections = {
            name: writer.add_connection(topic, KINDS[name], typestore=STORE) for name, topic in names.items()
        }
        messages = Messages(lambda name, stamp, data: writer.write(connections[name], stamp, data))
        for step in range(4):
            messages.compressed(0.2 * step, 50 + step)
            messages.decode(0.2 * step, 1, step)
    assert read(folder)[1] == []  # nobody said that it succeeded
    _, [(episode, images)] = read(folder, include_failed=True, instruction="open the drawer")
    np.testing.assert_allclose(episode.actions, [action(1, step) for step in range(4)], atol=1e-7)
    assert [int(image[0, 0, 0]) for image in images] == [50, 51, 52, 53]
    with pytest.raises(DatabaseError, match="does not say what was asked for: give --instruction"):
        read(folder, include_failed=True)


def other_bag(folder, fill, names=("image", "command", "task_success", "task_instruction")):
    folder.parent.mkdir(exist_ok=True)
    writer = EpisodeWriter(folder, {f"/{t.name}": t for t in EPISODE_TOPICS if t.name in names})
    messages = Messages(lambda name, stamp, data: writer.write(f"/{name}", stamp, data))
    messages.add("task_instruction", 0.0, data="open the drawer")
    fill(messages)
    messages.success(9.0, 2)
    writer.close()


def test_a_lost_image_leaves_a_gap_and_a_lost_step_ends_the_episode(folder):
    def fill(messages):
        for step in range(6):
            if step != 1:
                messages.image(0.2 * step, step)
            if step != 4:
                messages.command(0.2 * step, 1, step)

    other_bag(folder, fill)
    _, [(episode, images)] = read(folder)
    assert len(episode.actions) == 4
    assert [None if image is None else int(image[0, 0, 0]) for image in images] == [0, None, 2, 3]


def test_an_image_that_arrives_after_its_step_is_found(folder):
    def fill(messages):
        messages.command(1.0, 1, 0)
        messages.image(1.0, 77, delay=0.5)

    other_bag(folder, fill)
    assert read(folder)[1][0][1][0][0, 0, 0] == 77


def test_the_camera_must_be_named_where_there_are_several(folder):
    folder.parent.mkdir()
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        kinds = {"image": "/front/image", "command": "/command"}
        connections = {n: writer.add_connection(topic, KINDS[n], typestore=STORE) for n, topic in kinds.items()}
        wrist = writer.add_connection("/wrist/image", KINDS["image"], typestore=STORE)
        messages = Messages(lambda name, stamp, data: writer.write(connections[name], stamp, data))
        messages.image(0.0, 5)
        messages.command(0.0, 1, 0)
        connections["image"] = wrist
        messages.image(0.0, 6)
    known = {"include_failed": True, "instruction": "x"}
    with pytest.raises(DatabaseError, match="/front/image, /wrist/image.*--image-topic"):
        read(folder, **known)
    assert read(folder, image_topic="/wrist/image", **known)[1][0][1][0][0, 0, 0] == 6


def test_a_bag_cut_short_is_named(recorded):
    path = recorded / "episode.mcap"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DatabaseError, match=f"the bag {recorded} cannot be read"):
        read(recorded)
