# SPDX-License-Identifier: Apache-2.0
"""Episodes written as a recorder writes them: serialized messages of the real types."""

import numpy as np

from vla_sd_ros.recordings import rosbag
from vla_sd_ros.report import bag

START = 1_700_000_000_000_000_000  # [ns]


class Recording:
    """Makes messages with the type store and appends them to a bag under the namespace /vla."""

    def __init__(self, folder):
        self.folder = folder
        self.store = rosbag.typestore()
        self.types = self.store.types
        topics = {f"/vla/{topic.name}": topic for topic in bag.EPISODE_TOPICS if not topic.name.startswith("/")}
        self.writer = bag.EpisodeWriter(folder, topics)
        self.topics = topics

    def add(self, name, time, **fields):
        topic = f"/vla/{name}"
        kind = self.topics[topic].type
        serialized = self.store.serialize_cdr(self.make(kind, **fields), kind)
        self.writer.write(topic, START + round(time * 1e9), bytes(serialized))

    def make(self, kind, **fields):
        return self.types[kind](**fields)

    def header(self, time):
        nanoseconds = START + round(time * 1e9)
        stamp = self.make("builtin_interfaces/msg/Time", sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)
        return self.make("std_msgs/msg/Header", stamp=stamp, frame_id="panda_link0")

    def image(self, time, value, size=32):
        pixels = np.full(size * size * 3, value, np.uint8)
        self.add(
            "image",
            time,
            header=self.header(time),
            height=size,
            width=size,
            encoding="rgb8",
            is_bigendian=0,
            step=3 * size,
            data=pixels,
        )

    def success(self, time, state):
        self.add("task_success", time, header=self.header(time), instruction="pick up the milk", state=state, message="")

    def pose(self, name, time, x, y, z):
        position = self.make("geometry_msgs/msg/Point", x=x, y=y, z=z)
        orientation = self.make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0)
        pose = self.make("geometry_msgs/msg/Pose", position=position, orientation=orientation)
        self.add(name, time, header=self.header(time), pose=pose)

    def step(self, time, step, total_ms=20.0, path="autoregressive"):
        self.add(
            "decode",
            time,
            header=self.header(time),
            goal_id=self.make("unique_identifier_msgs/msg/UUID", uuid=np.arange(16, dtype=np.uint8)),
            step=step,
            decoder="autoregressive",
            path=path,
            bins=np.full(7, 128, np.uint8),
            action=np.zeros(7, np.float32),
            accepted_length=step % 8,
            forward_passes=7,
            threshold=0.0,
            fused_metric=float("nan"),
            vision_ms=4.0,
            prefill_ms=5.0,
            draft_ms=0.0,
            decode_ms=11.0,
            total_ms=total_ms,
            image_to_command_ms=30.0,
        )
