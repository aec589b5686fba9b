# SPDX-License-Identifier: Apache-2.0
"""A camera in a process of its own, 640 x 480 and 1280 x 720 at 30 Hz: all actions of a goal come, whatever its driver's QoS is."""

import time

import numpy as np
import pytest
from filmed import Filmed
from processes import NodeProcess, node_command

from vla_sd_ros.report import bag

STEPS, PERIOD = 25, 0.2


@pytest.fixture(scope="module")
def filmed(checkpoint, tmp_path_factory):
    vla = Filmed(checkpoint, tmp_path_factory.mktemp("filmed"), control_period=PERIOD)
    try:
        vla.process.wait_for_line("is active", 240.0)
        vla.client.wait_for_node(60.0)
        yield vla
    finally:
        vla.close()


@pytest.mark.parametrize("qos, size", [("reliable", "1280x720"), ("best_effort", "640x480"), ("reliable", "640x480")])
def test_all_actions_of_a_goal_come(filmed, qos, size):
    """By turns, so that vla_node must subscribe anew each time. A best-effort driver has config/large_images.xml."""
    camera = filmed.film("--qos", qos, "--size", size, buffers=qos == "best_effort")
    filmed.clear_records()
    filmed.ros.wait_until(lambda: filmed.sees(qos), "images")
    filmed.clear_records()
    filmed.client.start("pick up the milk", step_limit=STEPS)
    result = filmed.client.result(STEPS * PERIOD * 3.0)
    assert camera.terminate() == 0
    assert (result.termination_reason, result.steps) == ("step_limit", STEPS), result.error_msg
    times = np.array([when for when, _ in filmed.motions()])
    assert len(times) == STEPS and len(filmed.holds()) == 1, "it held before the end"
    assert np.diff(times).max() < 4.0 * PERIOD, f"a gap of {np.diff(times).max():.2f} s"


def test_the_recorder_gets_them_too(filmed, tmp_path):
    command = node_command("vla_sd_ros.nodes.recorder", {"folder": str(tmp_path / "episode")}, tmp_path)
    recorder = NodeProcess(command, filmed.domain, tmp_path / "recorder.log")
    try:
        filmed.ros.wait_until(lambda: filmed.ros.node.count_subscribers("image") == 2, "the recorder's subscription")
        camera = filmed.film("--qos", "reliable", buffers=False)
        time.sleep(6.0)  # 180 images on a machine that does not pause
        assert camera.terminate() == 0 and recorder.terminate() == 0
    finally:
        recorder.kill()
    assert sum(topic == "/vla/image" for topic, _, _ in bag.read(tmp_path / "episode")) > 60
