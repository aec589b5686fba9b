# SPDX-License-Identifier: Apache-2.0
"""Bags of `vla-sd demo` and of `ros2 bag record`: the steps of each goal with the images on which they were decided.

Needs the camera's topic and `command` (EndEffectorCommand) or `decode` (DecodeStep), told by their types, in any namespace.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vla_sd_ros.instruction import normalized
from vla_sd_ros.messages.images import compressed_to_rgb, to_rgb
from vla_sd_ros.recordings.episode import UNKNOWN, Damaged, Episode, Lazily, Options, RecordingError, Skipped
from vla_sd_ros.recordings.rosbag import opened
from vla_sd_ros.runs import read_summary

IMAGES = {"sensor_msgs/msg/Image": to_rgb, "sensor_msgs/msg/CompressedImage": compressed_to_rgb}
RUNNING = "vla_sd_msgs/msg/RunningGoal"
STEPS = ("vla_sd_msgs/msg/EndEffectorCommand", "vla_sd_msgs/msg/DecodeStep")
MARGIN = 5_000_000_000  # [ns] between an image's and its step's reception, at most


@dataclass
class Goal:
    """steps: number to stamp of the image [ns] and action (7,). begin, end: first and last reception of a step [ns].

    sentence: what `goal` said of this very goal; scene: what `task_instruction` had said last. success: None: nobody said.
    """

    begin: int
    end: int = 0
    steps: dict[int, tuple[int, np.ndarray]] = field(default_factory=dict)
    sentence: str = ""
    scene: str = ""
    success: bool | None = None

    def sequence(self) -> list[tuple[int, np.ndarray]]:
        """The steps in order, from the first recorded one up to the first that is missing."""
        number = min(self.steps)
        sequence = []
        while number in self.steps:
            sequence.append(self.steps[number])
            number += 1
        return sequence


class Bag:
    """Episodes of one bag, one for each goal in it.

    A goal succeeded where `task_success` (vla_sd_msgs/TaskSuccess or std_msgs/Bool) said so before the next goal began. Its
    instruction is the option's, else what `goal` said of it, else that of the run's summary.json beside the bag, else what
    `task_instruction` said last.
    """

    def __init__(self, place: Path, options: Options):
        self._place, self._options = place, options

    def __iter__(self) -> Iterator[Episode | Skipped]:
        try:
            with opened(self._place) as reader:
                if not reader.connections:
                    raise Damaged("is a bag without a message, or cut short before the first: record again")
                goals = _goals(reader)
                topic = self._camera(reader) if goals else ""
        except Damaged as error:
            yield Skipped(str(self._place), str(error))
            return
        if not goals:
            yield Skipped(str(self._place), "has no step of a goal in it: record the topics command or decode, and the camera's")
        for number, goal in enumerate(goals):
            name = f"{self._place}#{number}"
            if goal.success is None and not self._options.include_failed:
                yield Skipped(name, UNKNOWN)
                continue
            sequence = goal.sequence()
            stamps = np.array([stamp for stamp, _ in sequence])
            times = (stamps - stamps[0]) * 1e-9
            period = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
            yield Episode(
                Lazily(self._pictures, topic, goal.begin, goal.end, [int(stamp) for stamp in stamps]),
                np.array([action for _, action in sequence]),
                self._instruction(goal),
                name,
                times,
                period if period > 0.0 else None,
                goal.success,
            )

    def _camera(self, reader) -> str:
        """The camera's topic."""
        topics = {connection.topic for connection in reader.connections if connection.msgtype in IMAGES}
        topic = self._options.image_topic or (next(iter(topics)) if len(topics) == 1 else "")
        if not topics:
            raise Damaged("is a bag without a camera's topic: record that too")
        if topic not in topics:
            raise RecordingError(
                f"the bag {self._place} has the image topics {', '.join(sorted(topics))}: name the one that the policy saw with "
                "--image-topic"
            )
        return topic

    def _instruction(self, goal: Goal) -> str:
        return self._options.instruction or goal.sentence or _of_the_run(self._place.parent) or goal.scene

    def _pictures(self, topic: str, begin: int, end: int, stamps: list[int]) -> Iterator[np.ndarray | None]:
        """The images with these stamps [ns]; Damaged where not one of them can be told."""
        images: dict[int, np.ndarray] = {}
        alike, wanted = set(), set(stamps) - {0}
        with opened(self._place) as reader:
            camera = [connection for connection in reader.connections if connection.topic == topic]
            for connection, _, data in reader.messages(camera, start=begin - MARGIN, stop=end + MARGIN):
                message = reader.deserialize(data, connection.msgtype)
                if (stamp := _stamp(message)) in wanted:
                    image = _decoded(connection, message)
                    alike |= {stamp} if stamp in images and not np.array_equal(images[stamp], image) else set()
                    images[stamp] = image
        pictures = [None if stamp in alike else images.get(stamp) for stamp in stamps]
        if all(picture is None for picture in pictures):
            stamped = (
                f"the images of {topic} all have the stamp 0"
                if not wanted
                else f"several images of {topic} have one stamp"
                if alike
                else f"no image of {topic} has the stamp of a step"
            )
            raise Damaged(
                f"does not tell on which picture a step was decided, for {stamped}: "
                + (
                    "name the policy's camera with --image-topic"
                    if wanted and not alike
                    else "let the camera's driver stamp each image, and record again"
                )
            )
        yield from pictures


def _decoded(connection, message) -> np.ndarray:
    try:
        return IMAGES[connection.msgtype](message)
    except ValueError as error:
        raise Damaged(f"has pictures on {connection.topic} of which {error}") from error


def _of_the_run(run: Path) -> str:
    """The instruction that a run's summary names; none where there is no summary of ours."""
    with suppress(ValueError):
        said = read_summary(run).get("instruction")
        return said if isinstance(said, str) else ""
    return ""


def _goals(reader) -> list[Goal]:
    """The goals of a bag in order of time."""
    goals: dict[bytes, Goal] = {}
    sentences: dict[bytes, str] = {}
    scene, latest = "", b""
    watched = [
        c
        for c in reader.connections
        if c.msgtype in STEPS or _last(c.topic) in ("task_success", "task_instruction") or c.msgtype == RUNNING
    ]
    for connection, received, data in reader.messages(watched) if watched else ():
        message = reader.deserialize(data, connection.msgtype)
        if _last(connection.topic) == "task_instruction":
            scene = message.data
        elif connection.msgtype == RUNNING:
            sentences[message.goal_id.uuid.tobytes()] = message.instruction
        elif _last(connection.topic) == "task_success":
            if latest and _about(message, sentences.get(latest, "")):
                goals[latest].success = says_success(message) or bool(goals[latest].success and not says_failure(message))
        elif not getattr(message, "hold", False):
            latest = message.goal_id.uuid.tobytes()
            goal = goals.setdefault(latest, Goal(received))
            goal.end, goal.scene = received, scene
            goal.steps[message.step] = _stamp(message), _action(message)
    for identifier, goal in goals.items():
        goal.sentence = sentences.get(identifier, "")
    return list(goals.values())


def says_success(message) -> bool:
    """Whether a vla_sd_msgs/TaskSuccess, or a plain std_msgs/Bool, tells of success."""
    return message.data if hasattr(message, "data") else message.state == message.SUCCESS


def says_failure(message) -> bool:
    """Whether a vla_sd_msgs/TaskSuccess takes back what was said before, as an operator may."""
    return hasattr(message, "state") and message.state == message.FAILURE


def _about(message, sentence: str) -> bool:
    """Whether a verdict is on what was asked for; one without a sentence is on whatever runs."""
    judged = normalized(getattr(message, "instruction", ""))
    return not judged or not sentence or judged == normalized(sentence)


def _last(topic: str) -> str:
    return topic.rsplit("/", 1)[-1]


def _stamp(message) -> int:
    return message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec


def _action(message) -> np.ndarray:
    """The action (7,) of an EndEffectorCommand or a DecodeStep."""
    if hasattr(message, "action"):
        return np.array(message.action, np.float32)
    parts = [getattr(vector, axis) for vector in (message.translation, message.rotation) for axis in "xyz"]
    return np.array([*parts, message.gripper], np.float32)
