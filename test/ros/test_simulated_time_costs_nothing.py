# SPDX-License-Identifier: Apache-2.0
"""With use_sim_time an idle vla_node rests beside a fast /clock, and its goals run on simulated time."""

import os
import threading
import time
from pathlib import Path

import pytest
from builtin_interfaces.msg import Time
from rosgraph_msgs.msg import Clock
from vla import Vla

RATE, SPEED = 200.0, 0.5  # Hz of /clock; simulated seconds a second


@pytest.fixture
def simulated(tmp_path, checkpoint):
    patient = {"use_sim_time": True, "image.grace": 60.0, "joint_states.grace": 60.0}
    vla, over = Vla(checkpoint, tmp_path / "node", **patient), threading.Event()
    publisher, start = vla.ros.node.create_publisher(Clock, "/clock", 10), time.monotonic()

    def tick():
        while not over.wait(1 / RATE):
            seconds = 100.0 + SPEED * (time.monotonic() - start)
            publisher.publish(Clock(clock=Time(sec=int(seconds), nanosec=int(seconds % 1 * 1e9))))

    thread = threading.Thread(target=tick)
    thread.start()
    yield vla
    over.set()
    thread.join()
    vla.close()


def processor_time(pid: int) -> float:
    """What the process has used of the processor so far [s]."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_an_idle_node_leaves_the_processor_alone_and_its_goals_last_as_long_as_simulated_time_says(simulated):
    simulated.process.wait_for_line("is active", 240.0)
    simulated.client.wait_for_node(60.0)
    simulated.world.camera = simulated.world.joint_states = False
    time.sleep(1.0)
    pid = simulated.process.process.pid
    before = processor_time(pid)
    time.sleep(3.0)
    assert processor_time(pid) - before < 0.6

    begin = time.monotonic()
    simulated.client.start("pick up the milk", time_limit=1.0)
    simulated.ros.publish(Clock, "/clock", Clock(clock=Time(sec=-3)))  # is no time, and no end of the node
    assert simulated.client.result(20.0).error_code == 1003 and 1.8 < time.monotonic() - begin < 3.0


def test_a_time_before_zero_is_passed_over(start, ros):
    process = start("vla_sd_ros.nodes.arm_node", {"autostart": True, "use_sim_time": True})
    process.wait_for_line("is active")

    def said() -> bool:  # again and again: the node takes /clock best-effort, so one message may be lost
        ros.publish(Clock, "/clock", Clock(clock=Time(sec=-3)))
        return "/clock says -3 s, which is no time" in process.log

    ros.wait_until(said, "the sentence about /clock")
    assert ros.state("arm_node") == "active" and process.terminate() == 0
