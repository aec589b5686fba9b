# SPDX-License-Identifier: Apache-2.0
"""Episodes as rosbag2 bags in MCAP: their topics, writing serialized messages, reading them back.

Written with rosbags, so that a machine without the rosbag2 packages can record; `ros2 bag` and Foxglove open the result.
"""
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

MESSAGE_PACKAGE = "vla_sd_msgs"


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
    Topic("task_success", "std_msgs/msg/Bool", latched=True),
    Topic("robot_description", "std_msgs/msg/String", latched=True),
    Topic("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray"),
    Topic("/rosout", "rcl_interfaces/msg/Log", latched=True),
)


def message_folder() -> Path:
    """Folder of the installed .msg files of vla_sd_msgs. Raises FileNotFoundError when the package is not installed."""
    spec = find_spec(MESSAGE_PACKAGE)
    if spec is not None and spec.origin:
        for prefix in Path(spec.origin).parents:
            folder = prefix / "share" / MESSAGE_PACKAGE / "msg"
            if folder.is_dir():
                return folder
    raise FileNotFoundError(f"{MESSAGE_PACKAGE} is not installed: run `pip install ./msg` or source the workspace")


def typestore() -> Typestore:
    """Types of ROS 2 and of vla_sd_msgs, for reading and writing bags."""
    store = get_typestore(Stores.ROS2_KILTED)
    types = {}
    for path in sorted(message_folder().glob("*.msg")):
        types.update(get_types_from_msg(path.read_text(), f"{MESSAGE_PACKAGE}/msg/{path.stem}"))
    store.register(types)
    return store


def _qos(latched: bool) -> Qos:
    unlimited = QosTime(0x7FFFFFFF, 0xFFFFFFFF)
    return Qos(
        QosHistory.KEEP_LAST, 1 if latched else 10, QosReliability.RELIABLE,
        QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        unlimited, unlimited, QosLiveliness.AUTOMATIC, unlimited, False,
    )


class EpisodeWriter:
    """A bag being written: folder with NAME.mcap and metadata.yaml. Not thread safe.

    topics: absolute name -> Topic. Raises rosbags.rosbag2.WriterError when the folder exists.
    """

    def __init__(self, folder: Path, topics: dict[str, Topic]):
        self._writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        store = typestore()
        self._connections = {
            name: self._writer.add_connection(
                name, topic.type, typestore=store, offered_qos_profiles=[_qos(topic.latched)]
            )
            for name, topic in topics.items()
        }

    def write(self, name: str, stamp: int, serialized: bytes) -> None:
        """Append one message. stamp: time of reception [ns]. serialized: CDR as a raw subscription gives it."""
        self._writer.write(self._connections[name], stamp, serialized)

    def close(self) -> None:
        """Write index and metadata; the bag is complete after this."""
        self._writer.close()


def read(folder: Path) -> Iterator[tuple[str, int, object]]:
    """Messages of a bag in order of time: topic, time of reception [ns], message."""
    store = typestore()
    with Reader(folder) as reader:
        for connection, stamp, data in reader.messages():
            yield connection.topic, stamp, store.deserialize_cdr(data, connection.msgtype)


@dataclass
class Episode:
    """One recorded goal, times [s] since the first message of the bag.

    images: time and (H, W, 3) uint8 RGB. steps: time of the image each was decided on, and the DecodeStep message.
    commanded, measured: rows of time, x, y, z [m] in the base frame. gripper: rows of time and opening 0..1.
    success_time: when the task was first seen solved, or None.
    """

    images: list[tuple[float, np.ndarray]] = field(default_factory=list)
    steps: list[tuple[float, object]] = field(default_factory=list)
    commanded: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    measured: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    gripper: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    success_time: float | None = None
    counts: dict[str, int] = field(default_factory=dict)


def read_episode(folder: Path) -> Episode:
    """Read a recorded bag back. Topics are told apart by the last part of their name, so any namespace will do."""
    episode = Episode()
    commanded, measured, gripper = [], [], []
    start = None
    for topic, stamp, message in read(folder):
        start = stamp if start is None else start
        time = (stamp - start) * 1e-9
        name = topic.rsplit("/", 1)[-1]
        episode.counts[topic] = episode.counts.get(topic, 0) + 1
        if name == "image":
            episode.images.append((_header_time(message, start), to_rgb(message)))
        elif name == "decode":
            episode.steps.append((_header_time(message, start), message))
        elif name == "target_pose":
            commanded.append((time, *_position(message)))
        elif name == "measured_pose":
            measured.append((time, *_position(message)))
        elif name == "gripper_command":
            gripper.append((time, message.data))
        elif name == "task_success" and message.data and episode.steps and episode.success_time is None:
            episode.success_time = time
    episode.commanded = np.array(commanded).reshape(-1, 4)
    episode.measured = np.array(measured).reshape(-1, 4)
    episode.gripper = np.array(gripper).reshape(-1, 2)
    return episode


def to_rgb(image) -> np.ndarray:
    """Pixels (H, W, 3) uint8 RGB of a sensor_msgs/Image in rgb8 or bgr8. Raises ValueError for another encoding."""
    if image.encoding not in ("rgb8", "bgr8"):
        raise ValueError(f"cannot draw images in encoding {image.encoding!r}: only rgb8 and bgr8")
    rows = np.frombuffer(image.data, np.uint8).reshape(image.height, image.step)
    pixels = rows[:, : 3 * image.width].reshape(image.height, image.width, 3)
    return pixels if image.encoding == "rgb8" else pixels[..., ::-1]


def _header_time(message, start: int) -> float:
    stamp = message.header.stamp
    return stamp.sec - start * 1e-9 + stamp.nanosec * 1e-9


def _position(message) -> tuple[float, float, float]:
    position = message.pose.position
    return position.x, position.y, position.z
