# SPDX-License-Identifier: Apache-2.0
"""Episodes as rosbag2 bags in MCAP: their topics, writing serialized messages, reading them back.

Written with rosbags, so that a machine without the rosbag2 packages can record; `ros2 bag` and Foxglove open the result.
"""

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer

from vla_sd_ros.messages.images import to_rgb
from vla_sd_ros.messages.stamps import ANOTHER_CLOCK
from vla_sd_ros.recordings.bags import says_success
from vla_sd_ros.recordings.rosbag import opened, typestore

AHEAD = 4 << 20  # [bytes] of the disk claimed before they are needed: for the chunk in memory, index and metadata


@dataclass(frozen=True)
class Topic:
    """name: as a node in the robot's namespace would write it. type: package/msg/Name.

    latched: published transient local. best_effort: drivers publish it so, at least some of them.
    """

    name: str
    type: str
    latched: bool = False
    best_effort: bool = False


EPISODE_TOPICS = (
    Topic("image", "sensor_msgs/msg/Image", best_effort=True),
    Topic("camera_info", "sensor_msgs/msg/CameraInfo", best_effort=True),
    Topic("joint_states", "sensor_msgs/msg/JointState", best_effort=True),
    Topic("command", "vla_sd_msgs/msg/EndEffectorCommand"),
    Topic("decode", "vla_sd_msgs/msg/DecodeStep"),
    Topic("target_pose", "geometry_msgs/msg/PoseStamped"),
    Topic("measured_pose", "geometry_msgs/msg/PoseStamped"),
    Topic("gripper_command", "std_msgs/msg/Float64", latched=True),
    Topic("arm_node/status", "vla_sd_msgs/msg/ArmStatus", latched=True),
    Topic("task_instruction", "std_msgs/msg/String", latched=True),
    Topic("task_success", "vla_sd_msgs/msg/TaskSuccess", latched=True),
    Topic("goal", "vla_sd_msgs/msg/RunningGoal", latched=True),
    Topic("robot_description", "std_msgs/msg/String", latched=True),
    Topic("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray"),
    Topic("/rosout", "rcl_interfaces/msg/Log", latched=True),
)


def _qos(latched: bool) -> Qos:
    unlimited = QosTime(0x7FFFFFFF, 0xFFFFFFFF)
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if latched else 10,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=unlimited,
        lifespan=unlimited,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=unlimited,
        avoid_ros_namespace_conventions=False,
    )


class _Claimed(io.BufferedWriter):
    """A file that is longer than its content until it is closed, so that what is still to be written has its place."""

    def close(self) -> None:
        """Cut the file to its content first."""
        if not self.closed:
            self.truncate(self.tell())
        super().close()


class EpisodeWriter:
    """A bag being written: folder with NAME.mcap and metadata.yaml. Not thread safe.

    The disk is claimed ahead: a message for which there is no more room is an OSError, after which the bag can be closed as
    ever. topics: absolute name -> Topic. Raises rosbags.rosbag2.WriterError when the folder exists, OSError without room.
    """

    def __init__(self, folder: Path, topics: dict[str, Topic]):
        self._writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        storage: Any = self._writer.storage  # its file is replaced below, which its type does not foresee
        storage.bio.close()
        storage.bio = self._file = _Claimed(io.FileIO(storage.path, "r+"))
        self._file.seek(0, os.SEEK_END)
        self._claimed = 0
        self._metadata = storage.path.with_name("metadata.claimed")  # in whose place metadata.yaml will come
        try:
            self._claim(0)
            with self._metadata.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, 1 << 16)
        except OSError:
            self._writer.abort()
            raise
        store = typestore()
        self._connections = {
            name: self._writer.add_connection(name, topic.type, typestore=store, offered_qos_profiles=[_qos(topic.latched)])
            for name, topic in topics.items()
        }

    def write(self, name: str, stamp: int, serialized: bytes) -> None:
        """Append one message. stamp: time of reception [ns]. serialized: CDR as a raw subscription gives it.

        OSError, with the bag as it was before, when disk, quota or file size are at their limit.
        """
        self._claim(len(serialized))
        self._writer.write(self._connections[name], stamp, serialized)

    def close(self) -> None:
        """Write index and metadata; the bag is complete after this."""
        self._metadata.unlink(missing_ok=True)
        self._writer.close()

    def _claim(self, size: int) -> None:
        """Room for a message of this size [bytes], and for all that closing the bag takes; the index grows with the file."""
        end = self._file.tell()
        needed = end + end // 256 + AHEAD + size
        if needed > self._claimed:
            os.posix_fallocate(self._file.fileno(), self._claimed, needed - self._claimed)
            self._claimed = needed


def read(folder: Path) -> Iterator[tuple[str, int, Any]]:
    """Messages of a bag in order of time: topic, time of reception [ns], message.

    Of a bag that was never closed, because its recorder was killed, those that had been written. Raises RecordingError.
    """
    with opened(folder) as reader:
        for connection, stamp, data in reader.messages():
            yield connection.topic, stamp, reader.deserialize(data, connection.msgtype)


@dataclass
class RecordedEpisode:
    """One recorded goal, times [s] since the first message of the bag.

    images: time and (H, W, 3) uint8 RGB. steps: time of the image each was decided on, and the DecodeStep message.
    commanded, measured: rows of time, x, y, z [m] in the base frame. gripper: rows of time and opening 0..1.
    success_time: when the task was first seen solved, or None. unreadable: images of which no picture could be made, and why not
    of the first.
    """

    images: list[tuple[float, np.ndarray]] = field(default_factory=list)
    steps: list[tuple[float, Any]] = field(default_factory=list)
    commanded: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    measured: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    gripper: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    success_time: float | None = None
    counts: dict[str, int] = field(default_factory=dict)
    unreadable: tuple[int, str] = (0, "")


def read_episode(folder: Path) -> RecordedEpisode:
    """Read a recorded bag back. Topics are told apart by the last part of their name, so any namespace will do."""
    episode = RecordedEpisode()
    commanded, measured, gripper, images, steps = [], [], [], [], []
    start = None
    for topic, stamp, message in read(folder):
        start = stamp if start is None else start
        time = (stamp - start) * 1e-9
        name = topic.rsplit("/", 1)[-1]
        episode.counts[topic] = episode.counts.get(topic, 0) + 1
        if name == "image":
            try:
                images.append((_header_time(message, start), time, to_rgb(message)))
            except ValueError as error:
                episode.unreadable = episode.unreadable[0] + 1, episode.unreadable[1] or str(error)
        elif name == "decode":
            steps.append((_header_time(message, start), time, message))
        elif name == "target_pose":
            commanded.append((time, *_position(message)))
        elif name == "measured_pose":
            measured.append((time, *_position(message)))
        elif name == "gripper_command":
            gripper.append((time, message.data))
        elif name == "task_success" and steps and episode.success_time is None and says_success(message):
            episode.success_time = time
    stamped = _stamped(images or steps)
    episode.images = [(at if stamped else arrived, image) for at, arrived, image in images]
    episode.steps = [(at if stamped else arrived, step) for at, arrived, step in steps]
    episode.commanded = np.array(commanded).reshape(-1, 4)
    episode.measured = np.array(measured).reshape(-1, 4)
    episode.gripper = np.array(gripper).reshape(-1, 2)
    return episode


def _stamped(rows: list[tuple]) -> bool:
    """Whether the stamps of these rows (by stamp [s], by arrival [s], ...) tell their times: not zero, of this clock, ascending."""
    stamps, arrivals = np.array([row[:2] for row in rows]).reshape(-1, 2).T
    near = np.abs(stamps - arrivals) < ANOTHER_CLOCK
    return bool(near.all() and (len(stamps) < 2 or np.median(np.diff(stamps)) > 0.0))


def _header_time(message, start: int) -> float:
    stamp = message.header.stamp
    return stamp.sec - start * 1e-9 + stamp.nanosec * 1e-9


def _position(message) -> tuple[float, float, float]:
    position = message.pose.position
    return position.x, position.y, position.z
