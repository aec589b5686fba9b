# SPDX-License-Identifier: Apache-2.0
"""recorder: writes the topics of an episode into an MCAP bag, as they come off the wire.

A process of its own, so that recording disturbs nobody; raw subscriptions, so that it costs little.
"""

import os
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from rclpy.qos import DurabilityPolicy, QoSProfile
from rosbags.rosbag2 import WriterError
from std_msgs.msg import Bool

from vla_sd_ros.messages.qos import LATCHED
from vla_sd_ros.nodes.matching import GRAPH_PERIOD, MatchedSubscription
from vla_sd_ros.nodes.parameters import STEADY, ParameterSpec, PlainNode
from vla_sd_ros.nodes.process import run
from vla_sd_ros.report.bag import EPISODE_TOPICS, EpisodeWriter, Topic

QUEUE = 200  # messages that may wait while the disk is busy
PATIENCE = 5.0  # [s] to wait for publishers before saying that some topics have none


class Recorder(PlainNode):
    """Records from its start to its end, or until there is no more room; the bag is complete when the process has ended.

    `~/recording`, latched, is true as soon as nothing that is published is missed.
    """

    TABLE = (ParameterSpec("folder", "episode", "Folder of the bag; must not exist yet.", read_only=True),)

    def __init__(self, name: str = "recorder", **options):
        super().__init__(name, **options)
        topics = {self.resolve_topic_name(topic.name): topic for topic in EPISODE_TOPICS}
        writer = self._open(topics)
        self._writer: EpisodeWriter | None = writer  # to be closed
        for resolved, topic in topics.items():
            self._record(writer, resolved, topic)
        self._silent = list(topics)
        self._deadline = time.monotonic() + PATIENCE
        self._recording = self.create_publisher(Bool, "~/recording", LATCHED)
        self._timer = self.create_timer(0.05, self._announce, clock=STEADY)

    def _announce(self) -> None:
        """Tell once that recording goes on: when every topic has a publisher, or after PATIENCE."""
        self._silent = [name for name in self._silent if not self.count_publishers(name)]
        if self._silent and time.monotonic() < self._deadline:
            return
        self._timer.cancel()
        absent = f"; nobody publishes {', '.join(self._silent)}" if self._silent else ""
        self.get_logger().info(f"recording{absent}")
        self._recording.publish(Bool(data=True))

    def _open(self, topics: dict[str, Topic]) -> EpisodeWriter:
        try:
            return EpisodeWriter(self.values["folder"], topics)
        except (WriterError, OSError) as error:
            raise RuntimeError(f"the episode cannot be recorded: {error}") from error

    def _record(self, writer: EpisodeWriter, resolved: str, topic: Topic) -> None:
        # Without the message's info, whose received_timestamp would be exacter: rclpy 9.1's events executor fails with
        # "null argument to internal routine" on every callback that takes it.
        def write(serialized: bytes) -> None:
            try:
                writer.write(resolved, time.time_ns(), serialized)
            except OSError as error:
                self.stop()  # before the error is logged, which may want room on the same disk
                raise RuntimeError(
                    f"there is no more room for the episode ({error.strerror}); what was recorded until now can be read"
                ) from error

        matched = subscribe(self, topic, resolved, write)
        if matched is not None:
            self.create_timer(GRAPH_PERIOD, matched.look, clock=STEADY)

    def stop(self) -> None:
        writer, self._writer = self._writer, None
        if writer:
            writer.close()


def subscribe(node: Any, topic: Topic, resolved: str, write: Callable[[bytes], None]) -> MatchedSubscription | None:
    """Hand on the messages of a topic as they come off the wire; look() of what is returned, if anything, wants to be called."""
    kind = message_class(topic.type)
    if topic.best_effort:
        return MatchedSubscription(node, kind, resolved, write, QUEUE, raw=True)
    durability = DurabilityPolicy.TRANSIENT_LOCAL if topic.latched else DurabilityPolicy.VOLATILE
    node.create_subscription(kind, resolved, write, QoSProfile(depth=QUEUE, durability=durability), raw=True)
    return None


def message_class(name: str) -> type:
    """The class of a message type written package/msg/Name."""
    package, kind, message = name.split("/")
    return getattr(import_module(f"{package}.{kind}"), message)


def main() -> int:
    """Entry point of the process recorder."""
    os.nice(5)  # recording may wait, control may not
    return run(Recorder)


if __name__ == "__main__":
    main()
