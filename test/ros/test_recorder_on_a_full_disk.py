# SPDX-License-Identifier: Apache-2.0
"""recorder ends with one sentence and a whole bag when its disk is full."""

import time

from sensor_msgs.msg import Image

from vla_sd_ros.report import bag


def test_a_full_disk_ends_the_recorder_with_a_sentence_and_its_bag_is_whole(start, ros, small_disk):
    recorder = start("vla_sd_ros.nodes.recorder", {"folder": str(small_disk / "episode")})
    picture = Image(height=160, width=160, encoding="rgb8", step=480, data=bytes(160 * 480))
    while recorder.process.poll() is None:
        ros.publish(Image, "image", picture, 1, wait=False)
        time.sleep(0.01)
    assert recorder.process.returncode == 1
    assert "there is no more room for the episode (No space left on device)" in recorder.wait_for_line("no more room")
    read = [message for topic, _, message in bag.read(small_disk / "episode") if topic == "/vla/image"]
    assert len(read) > 30 and (small_disk / "episode" / "metadata.yaml").is_file()
