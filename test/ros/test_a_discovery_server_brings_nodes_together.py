# SPDX-License-Identifier: Apache-2.0
"""Nodes with config/wifi.xml find each other by a discovery server alone, as docs/network.md says, and do without it once they have."""

import os
import socket
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from camera import message
from filmed import CAMERA, profiles
from processes import Domain, NodeProcess, Ros, discovery_server, in_a_process
from sensor_msgs.msg import Image


def images_arrive(folder: Path) -> None:
    """In a process of its own, because the middleware reads profiles and the server's address once."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    os.environ |= profiles("wifi.xml") | {"ROS_DISCOVERY_SERVER": f"127.0.0.1:{port}", "ROS_SUPER_CLIENT": "TRUE"}
    domain = Domain()
    domain.discovery = "SUBNET"  # with LOCALHOST rmw_fastrtps takes transports of its own instead of the file's
    command = [sys.executable, CAMERA, "--size", "256x256", "--ros-args", "-r", "__ns:=/vla"]
    started = [NodeProcess(command, domain, folder / "camera.log")]
    ros = Ros(domain)
    try:
        seen = ros.listen(Image, "image")
        started[0].wait_for_line("filming")
        time.sleep(2.0)
        assert not seen, "they met without the server"
        started.append(NodeProcess([discovery_server(), "-i", "0", "-l", "127.0.0.1", "-p", port], domain, folder / "server.log"))
        ros.wait_until(lambda: len(seen) > 10, "images", 30.0)
        assert seen[-1][1].data == message(256, 256, False).data
        started[1].kill()
        arrived = len(seen)
        ros.wait_until(lambda: len(seen) > arrived + 60, "images after the server was killed")
        for process in ("self", started[0].process.pid):
            assert "/dev/shm/fast" not in Path(f"/proc/{process}/maps").read_text(), "shared memory: wifi.xml was not read"
    finally:
        ros.close()
        for process in started:
            process.kill()


@pytest.mark.skipif(discovery_server() is None, reason="fast-discovery-server of Fast DDS is not installed")
def test_they_meet_by_the_server_and_stay_when_it_is_killed(tmp_path):
    in_a_process(partial(images_arrive, tmp_path))
