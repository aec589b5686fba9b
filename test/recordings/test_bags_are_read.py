# SPDX-License-Identifier: Apache-2.0
"""Bags of our recorder and of `ros2 bag record` become episodes, one a goal: each action with the image it came from."""

import json
import sqlite3

import cv2
import numpy as np
import pytest
from reading import read, refused, skipped

pytest.importorskip("rosbags", reason="needs the extra [data]")
pytest.importorskip("vla_sd_msgs", reason="vla_sd_msgs is not installed")

from rosbags.rosbag2 import StoragePlugin, Writer  # noqa: E402

from vla_sd_ros.recordings.rosbag import typestore  # noqa: E402
from vla_sd_ros.report.bag import EPISODE_TOPICS, EpisodeWriter  # noqa: E402

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

    def image(self, time, value, delay=0.01, stamped=None, encoding="rgb8", channels=3):
        pixels = np.full((8, 10, channels), value, np.uint8)
        self.add(
            "image",
            time + delay,
            header=self.header(time if stamped is None else stamped),
            height=8,
            width=10,
            encoding=encoding,
            is_bigendian=0,
            step=10 * channels,
            data=pixels.ravel(),
        )

    def compressed(self, time, value):
        data = cv2.imencode(".png", picture(value))[1].ravel()
        self.add("image/compressed", time + 0.01, header=self.header(time), format="png", data=data)

    def success(self, time, state):
        self.add("task_success", time, header=self.header(time), instruction="", state=state, message="")

    def goal_id(self, goal):
        return self.make("unique_identifier_msgs/msg/UUID", uuid=np.full(16, goal, np.uint8))

    def command(self, time, goal, step, hold=False, stamped=None):
        values = [float(value) for value in action(goal, step)]
        vector = [dict(zip("xyz", values[i : i + 3])) for i in (0, 3)]
        translation, rotation = (self.make("geometry_msgs/msg/Vector3", **v) for v in vector)
        self.add(
            "command",
            time + 0.05,
            header=self.header(time if stamped is None else stamped),
            goal_id=self.goal_id(goal),
            step=step,
            hold=hold,
            translation=translation,
            rotation=rotation,
            gripper=values[6],
            period=self.make("builtin_interfaces/msg/Duration", sec=0, nanosec=200_000_000),
        )

    def decode(self, time, goal, step, decided=None):
        self.add(
            "decode",
            time + 0.05,
            header=self.header(time),
            goal_id=self.goal_id(goal),
            step=step,
            decoder="",
            path="",
            bins=np.zeros(7, np.uint8),
            action=action(goal, step) if decided is None else decided,
            accepted_length=0,
            forward_passes=7,
            threshold=0.0,
            fused_metric=0.0,
            vision_ms=0.0,
            prefill_ms=0.0,
            draft_ms=0.0,
            decode_ms=0.0,
            total_ms=0.0,
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


def test_a_successful_goal_has_its_steps_with_their_images(recorded):
    _, [(episode, images)] = read(recorded)
    assert episode.instruction == "sentence 1" and episode.name == f"{recorded}#0"
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
        connections = {name: writer.add_connection(topic, KINDS[name], typestore=STORE) for name, topic in names.items()}
        messages = Messages(lambda name, stamp, data: writer.write(connections[name], stamp, data))
        for step in range(4):
            messages.compressed(0.2 * step, 50 + step)
            messages.decode(0.2 * step, 1, step)
    assert read(folder)[1] == []  # nobody said that it succeeded
    _, [(episode, images)] = read(folder, include_failed=True, instruction="open the drawer")
    np.testing.assert_allclose(episode.actions, [action(1, step) for step in range(4)], atol=1e-7)
    assert [int(image[0, 0, 0]) for image in images] == [50, 51, 52, 53]
    skipped(folder, "#0", "has no instruction, which says what it demonstrates: give --instruction", include_failed=True)
    skipped(folder, "#0", "is not known to have succeeded: --include-failed")


def other_bag(folder, fill, names=("image", "command", "task_success", "task_instruction"), last=True):
    folder.parent.mkdir(parents=True, exist_ok=True)
    writer = EpisodeWriter(folder, {f"/{t.name}": t for t in EPISODE_TOPICS if t.name in names})
    messages = Messages(lambda name, stamp, data: writer.write(f"/{name}", stamp, data))
    messages.add("task_instruction", 0.0, data="open the drawer")
    fill(messages)
    if last:
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
    refused(folder, "/front/image, /wrist/image.*--image-topic", **known)
    assert read(folder, image_topic="/wrist/image", **known)[1][0][1][0][0, 0, 0] == 6


def test_a_goal_has_its_own_sentence_and_is_judged_by_it(folder):
    def fill(messages):
        for goal, sentence in ((1, "pick up the milk"), (2, "close the drawer")):
            header, begin = messages.header(goal), 10.0 * goal
            messages.add("goal", begin, header=header, goal_id=messages.goal_id(goal), instruction=sentence)
            messages.image(begin, goal)
            messages.command(begin, goal, 0)
            messages.add("task_success", begin + 1.0, header=header, instruction="Close the drawer.", state=2, message="")
            messages.add("goal", begin + 2.0, header=header, goal_id=messages.goal_id(0), instruction="")

    other_bag(folder, fill, ("image", "command", "task_success", "task_instruction", "goal"), last=False)
    (folder.parent / "summary.json").write_text(json.dumps({"instruction": "that of the last goal alone"}))
    _, [(episode, _)] = read(folder)
    assert episode.instruction == "close the drawer" and episode.name == f"{folder}#1"
    assert [e.instruction for e, _ in read(folder, include_failed=True)[1]] == ["pick up the milk", "close the drawer"]


def test_a_bag_without_its_end_or_its_metadata_or_its_storage_is_read_as_far_as_it_goes(recorded):
    expected = read(recorded)[1][0][0].actions

    def same():
        ((episode, images),) = read(recorded)[1]
        np.testing.assert_array_equal(episode.actions, expected)
        assert int(images[2][0, 0, 0]) == 14

    metadata = (recorded / "metadata.yaml").read_text()
    (recorded / "metadata.yaml").write_text(metadata.replace("storage_identifier: mcap", "storage_identifier: ''"))
    assert "''" in (recorded / "metadata.yaml").read_text()
    same()
    (recorded / "metadata.yaml").write_text("{")
    same()
    (recorded / "metadata.yaml").unlink()
    same()
    assert len(read(recorded / "episode.mcap")[1]) == 1  # the file alone is a source too
    path = recorded / "episode.mcap"
    path.write_bytes(path.read_bytes()[:-200])  # index and footer are gone, as where a recorder was killed
    same()
    path.write_bytes(path.read_bytes()[:1000])
    refused(recorded.parent, "none of the recordings can be used: 1 skipped: .*episode is a bag without a message, or cut short")


def test_a_sqlite_bag_without_definitions_of_its_messages_is_read_by_those_that_are_installed(folder):
    folder.parent.mkdir()
    names = {"image": "/image", "decode": "/decode"}
    with Writer(folder, version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connections = {n: writer.add_connection(topic, KINDS[n], typestore=STORE) for n, topic in names.items()}
        messages = Messages(lambda name, stamp, data: writer.write(connections[name], stamp, data))
        messages.image(0.0, 7)
        messages.decode(0.0, 1, 0)
    known = {"include_failed": True, "instruction": "open the drawer"}
    (file,) = folder.glob("*.db3")
    with sqlite3.connect(file) as database:
        database.execute("DELETE FROM message_definitions")
    database.close()
    for _ in range(2):
        ((_, images),) = read(folder, **known)[1]
        assert int(images[0][0, 0, 0]) == 7
        (folder / "metadata.yaml").unlink(missing_ok=True)  # and without its metadata


@pytest.mark.parametrize(
    "moment, said",
    [
        (lambda time: -START * 1e-9, "all have the stamp 0: let the camera's driver stamp"),
        (lambda time: 0.0, "several images of /image have one stamp: let the camera's driver stamp"),
        (lambda time: time + 0.05, "no image of /image has the stamp of a step: name the policy's camera"),
    ],
)
def test_steps_are_never_paired_with_another_picture(folder, moment, said):
    def fill(messages):
        for step in range(4):
            messages.image(0.2 * step, 10 + step, stamped=moment(0.2 * step))
            messages.command(0.2 * step, 1, step, stamped=min(moment(0.2 * step), 0.2 * step))

    other_bag(folder, fill)
    assert skipped(folder, "#0", said) == []


@pytest.mark.parametrize("encoding, channels", [("bgra8", 4), ("mono8", 1)])
def test_other_encodings_of_images_are_read(folder, encoding, channels):
    def fill(messages):
        messages.image(0.0, 9, encoding=encoding, channels=channels)
        messages.command(0.0, 1, 0)

    other_bag(folder, fill)
    np.testing.assert_array_equal(read(folder)[1][0][1][0], picture(9))


def test_an_encoding_that_nobody_reads_is_told(folder):
    def fill(messages):
        messages.image(0.0, 9, encoding="bayer_rggb8", channels=1)
        messages.command(0.0, 1, 0)

    other_bag(folder, fill)
    said = "has pictures on /image of which image encoding 'bayer_rggb8' is not supported: run image_proc"
    assert skipped(folder, "#0", said) == []


@pytest.mark.parametrize(
    "content",
    [
        b"[1]",
        b'{"instruction": null}',
        '{"instruction": "öffne", "a": "ä"}'.encode("latin-1"),
        b'{"instruction": 3}',
        b"{",
        b"[" * 100000,
    ],
)
def test_a_summary_that_is_not_ours_ends_nothing(recorded, content):
    (recorded.parent / "summary.json").write_bytes(content)
    assert len(read(recorded)[1]) == 1


def test_a_bag_that_cannot_be_read_leaves_the_others(recorded):
    other = recorded.parent / "other"
    other.mkdir()
    (other / "other_0.db3").write_bytes(b"no database")
    assert skipped(recorded.parent, "other", "is a bag that cannot be read") == [f"{recorded}#0"]
    (other / "metadata.yaml").write_text("a: file of something else")
    assert skipped(recorded.parent, "other", "is a bag that cannot be read") == [f"{recorded}#0"]


def test_a_bag_without_goals_or_without_a_camera_says_so(folder):
    other_bag(folder, lambda messages: messages.image(0.0, 1))
    skipped(folder, "episode", "has no step of a goal in it")
    blind = folder.parent / "blind"
    other_bag(blind, lambda messages: messages.command(0.0, 1, 0), ("command", "task_success", "task_instruction"))
    skipped(blind, "blind", "is a bag without a camera's topic")


def test_the_rate_of_a_bag_is_that_of_its_images(recorded):
    episode = read(recorded)[1][0][0]
    assert episode.period == pytest.approx(0.2) and episode.success is True
    np.testing.assert_allclose(episode.stamps, 0.2 * np.arange(6), atol=1e-9)
