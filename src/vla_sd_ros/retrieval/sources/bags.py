# SPDX-License-Identifier: Apache-2.0
"""Bags of `vla-sd demo` and of `ros2 bag record`: the steps of each goal with the images on which they were decided.

Needs the camera's topic and `command` (EndEffectorCommand) or `decode` (DecodeStep), told by their types, in any namespace.
"""
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vla_sd_ros.images import compressed_to_rgb, to_rgb
from vla_sd_ros.retrieval.database import DatabaseError
from vla_sd_ros.retrieval.sources import Episode, Options

IMAGES = {"sensor_msgs/msg/Image": to_rgb, "sensor_msgs/msg/CompressedImage": compressed_to_rgb}
RUNNING = "vla_sd_msgs/msg/RunningGoal"
STEPS = ("vla_sd_msgs/msg/EndEffectorCommand", "vla_sd_msgs/msg/DecodeStep")
MARGIN = 5_000_000_000  # [ns] between an image's and its step's reception, at most


@dataclass
class Goal:
    """steps: number to stamp of the image [ns] and action (7,). begin, end: first and last reception of a step [ns]."""

    begin: int
    end: int = 0
    steps: dict[int, tuple[int, np.ndarray]] = field(default_factory=dict)
    instruction: str = ""
    success: bool = False

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
    instruction is the option's, else that of the run's summary.json beside the bag, else what `goal` or `task_instruction` said
    last.
    """

    def __init__(self, folder: Path, options: Options):
        self._folder, self._options = folder, options
        with _opened(folder) as reader:
            # the fewer of commands, some of which hold, and decoded steps
            self.steps = min((c.msgcount for c in reader.connections if c.msgtype in STEPS and c.msgcount), default=0)

    def __iter__(self) -> Iterator[Episode]:
        with _opened(self._folder) as reader:
            goals = _goals(reader)
            camera = self._camera(reader) if goals else []
            for number, goal in enumerate(goals):
                if goal.success or self._options.include_failed:
                    sequence = goal.sequence()
                    images = _images(reader, camera, goal, {stamp for stamp, _ in sequence})
                    yield Episode(
                        [images.get(stamp) for stamp, _ in sequence], np.array([action for _, action in sequence]),
                        self._instruction(goal), f"{self._folder}#{number}",
                    )

    def _camera(self, reader) -> list:
        """Connections of the camera's topic."""
        topics = {connection.topic for connection in reader.connections if connection.msgtype in IMAGES}
        topic = self._options.image_topic or (next(iter(topics)) if len(topics) == 1 else "")
        if topic not in topics:
            there = ", ".join(sorted(topics)) or "(none)"
            raise DatabaseError(f"the bag {self._folder} has the image topics {there}: name the one that the policy saw with "
                                "--image-topic")
        return [connection for connection in reader.connections if connection.topic == topic]

    def _instruction(self, goal: Goal) -> str:
        try:
            summary = json.loads((self._folder.parent / "summary.json").read_text())
        except (OSError, ValueError):
            summary = {}
        instruction = self._options.instruction or summary.get("instruction") or goal.instruction
        if not instruction:
            raise DatabaseError(f"the bag {self._folder} does not say what was asked for: give --instruction")
        return instruction


@contextmanager
def _opened(folder: Path):
    """A reader of the bag, with the types that are written in it. Raises DatabaseError where it cannot be read."""
    try:
        from rosbags.highlevel import AnyReader, AnyReaderError
        from rosbags.rosbag2 import ReaderError
    except ImportError as error:
        raise DatabaseError(f"reading the bag {folder} needs rosbags: pip install 'vla_sd_ros[data]'") from error
    try:
        with AnyReader([folder]) as reader:
            yield reader
    except (AnyReaderError, ReaderError, OSError) as error:
        raise DatabaseError(f"the bag {folder} cannot be read ({error}): `ros2 bag reindex` mends one cut short") from error


def _goals(reader) -> list[Goal]:
    """The goals of a bag in order of time."""
    from vla_sd_ros.report.bag import says_success  # needs rosbags, as the reader did

    goals: dict[bytes, Goal] = {}
    instruction, latest = "", None
    watched = [c for c in reader.connections if c.msgtype in STEPS or _last(c.topic) in ("task_success", "task_instruction")
               or c.msgtype == RUNNING]
    for connection, received, data in reader.messages(watched) if watched else ():
        message = reader.deserialize(data, connection.msgtype)
        if _last(connection.topic) == "task_instruction":
            instruction = message.data
        elif connection.msgtype == RUNNING:
            instruction = message.instruction or instruction
        elif _last(connection.topic) == "task_success":
            if latest is not None:
                latest.success |= says_success(message)
        elif not getattr(message, "hold", False):
            latest = goals.setdefault(message.goal_id.uuid.tobytes(), Goal(received))
            latest.end, latest.instruction = received, instruction
            latest.steps[message.step] = _stamp(message), _action(message)
    return list(goals.values())


def _images(reader, camera: list, goal: Goal, wanted: set[int]) -> dict[int, np.ndarray]:
    """The images with these stamps [ns]."""
    images = {}
    for connection, _, data in reader.messages(camera, start=goal.begin - MARGIN, stop=goal.end + MARGIN):
        message = reader.deserialize(data, connection.msgtype)
        if _stamp(message) in wanted:
            try:
                images[_stamp(message)] = IMAGES[connection.msgtype](message)
            except ValueError as error:
                raise DatabaseError(f"{connection.topic}: {error}") from error
    return images


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
