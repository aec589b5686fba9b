# SPDX-License-Identifier: Apache-2.0
"""`kill -9` of vla_node in the middle of a goal leaves arm_node holding, and the next vla_node works at once; the goal's
client learns that the goal is gone, though a vla_node is there.
"""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from sensor_msgs.msg import Image
from vla_sd_msgs.msg import ArmStatus

from vla_sd_ros.client import InstructionClient

SETTLING_TIME = 0.7  # [s]: arm_node's command_timeout and the time to brake, with the default limits


def camera(ros) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8).tobytes()
    publisher = ros.node.create_publisher(Image, "image", 1)

    def publish():
        message = Image(height=64, width=64, encoding="rgb8", step=192, data=pixels)
        message.header.stamp = ros.node.get_clock().now().to_msg()
        publisher.publish(message)

    ros.node.create_timer(0.1, publish)


def start_moving(start, ros, checkpoint, arm_node):
    """A new vla_node that executes a goal, and its client."""
    process = start("vla_sd_ros.nodes.vla_node", {"autostart": True, "policy.checkpoint": str(checkpoint)})
    process.wait_for_line("is active", 60.0)
    client = InstructionClient("vla", context=ros.context)
    client.wait_for_node()
    client.start("pick up the milk")
    began = time.monotonic()
    ros.wait_until(lambda: [s for when, s in arm_node.statuses if when > began and s.code == ArmStatus.OK], "motion")
    return process, client


def test_the_arm_holds_and_the_next_start_works(start, ros, checkpoint, arm_node):
    camera(ros)
    process, client = start_moving(start, ros, checkpoint, arm_node)
    code, _ = process.end(signal.SIGKILL)
    killed = time.monotonic()
    assert code == -signal.SIGKILL

    ros.wait_until(lambda: arm_node.statuses[-1][1].code == ArmStatus.COMMAND_STALE, "the reason of the hold", 2.0)
    time.sleep(max(0.0, killed + SETTLING_TIME + 0.3 - time.monotonic()))
    at_rest = [m.pose.position for when, m in arm_node.targets if when > killed + SETTLING_TIME]
    assert len(at_rest) >= 10, "arm_node must go on sending the held target"
    held = np.array([[p.x, p.y, p.z] for p in at_rest])
    np.testing.assert_allclose(held, np.broadcast_to(held[0], held.shape), atol=1e-9)

    _, next_client = start_moving(start, ros, checkpoint, arm_node)
    # DDS still shows the killed node, and the new one offers the same action.
    began = time.monotonic()
    with pytest.raises(ConnectionError, match="took the goal with it"):
        client.result(15.0)
    assert time.monotonic() - began < 5.0 and not client.running
    client.close()

    client = next_client
    client.cancel()
    assert client.result(5.0) is not None
    client.close()


def test_vla_sd_send_ends_when_another_vla_node_takes_the_place_of_the_killed_one(domain, start, ros, checkpoint):
    module = "vla_sd_ros.nodes.vla_node"  # its goal waits for a camera and an arm
    process = start(
        module,
        {
            "autostart": True,
            "policy.checkpoint": str(checkpoint),
            "image.grace": 600.0,
            "joint_states.grace": 600.0,
            "arm_status.grace": 600.0,
        },
    )
    process.wait_for_line("is active", 60.0)
    command = [sys.executable, "-m", "vla_sd_ros.cli", "send", "pick up the milk"]
    sending = subprocess.Popen(command, env=domain.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.wait_for_line("New goal", 60.0)
    time.sleep(1.0)  # until the sender knows that it was accepted
    process.end(signal.SIGKILL)
    killed = time.monotonic()
    start(module)
    out, err = sending.communicate(timeout=30.0)
    assert sending.returncode == 1 and "took the goal with it" in err and "Traceback" not in err
    assert time.monotonic() - killed < 19.0, "sooner than DDS misses it"
