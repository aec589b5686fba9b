# SPDX-License-Identifier: Apache-2.0
"""With config/wifi.xml and a discovery server, as docs/network.md has it, arm_node still sees another node at its robot.

A discovery server tells a client only of those that it would talk to, and two publishers do not talk: hence ROS_SUPER_CLIENT.
"""

import os
import socket
import subprocess
from functools import partial

import pytest
from faults import FAULTS, run
from filmed import profiles
from processes import discovery_server, in_a_process
from system import System

SLACK = 0.5  # s, for other work on the machine
pytestmark = pytest.mark.skipif(not discovery_server(), reason="Fast DDS has no discovery server here")


def problems(checkpoint, folder) -> list[str]:
    """In a process of its own, because the middleware reads its environment once."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    server = subprocess.Popen([discovery_server(), "-i", "0", "-l", "127.0.0.1", "-p", port], stdout=subprocess.DEVNULL)
    os.environ |= {"ROS_DISCOVERY_SERVER": f"127.0.0.1:{port}", "ROS_SUPER_CLIENT": "TRUE", **profiles("wifi.xml")}
    try:
        with System(folder, "arm", checkpoint) as system:
            (second,) = (fault for fault in FAULTS if fault.name == "two publishers of target_pose")
            return run(system, second, SLACK).problems
    finally:
        server.kill()
        server.wait()


def test_the_arm_stops_for_a_second_master(checkpoint, tmp_path):
    assert in_a_process(partial(problems, checkpoint, tmp_path), timeout=300.0) == []
