# SPDX-License-Identifier: Apache-2.0
"""recorder tells on a topic when nothing is missed any more: as soon as every topic of an episode has a publisher."""

import time

from processes import LATCHED
from std_msgs.msg import Bool

from vla_sd_ros.nodes.recorder import PATIENCE, message_class
from vla_sd_ros.report.bag import EPISODE_TOPICS


def test_recording_is_true_when_all_topics_are_there(start, ros, tmp_path):
    recording = ros.listen(Bool, "recorder/recording", LATCHED)
    start("vla_sd_ros.nodes.recorder", {"folder": str(tmp_path / "episode")})
    ros.wait_until(lambda: ros.node.count_publishers("recorder/recording"), "the recorder")
    assert not recording
    began = time.monotonic()
    for topic in EPISODE_TOPICS:
        ros.node.create_publisher(message_class(topic.type), topic.name, 1)
    ros.wait_until(lambda: recording, "the news")
    assert [message.data for _, message in recording] == [True] and time.monotonic() - began < PATIENCE / 2
