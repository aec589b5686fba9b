# SPDX-License-Identifier: Apache-2.0
"""Whatever the interface: another publisher of what the robot takes is a fault for as long as it is there."""

import pytest

from vla_sd_ros.arms import make_arm
from vla_sd_ros.arms.wiring import Rivals


@pytest.mark.parametrize("interface", ["pose_target", "joint_trajectory"])
def test_a_second_publisher_is_a_fault_for_as_long_as_it_is_there(bench, interface):
    bench.node.values["arm.interface"] = interface
    before = set(bench.node.publishers)
    make_arm(bench.node)
    (publisher,) = (publisher for publisher in bench.node.publishers if publisher not in before)
    rivals = Rivals(bench.node, [publisher])
    assert rivals.fault(100.0) == ""
    other = bench.robot.create_publisher(publisher.msg_type, publisher.topic_name, 1)
    bench.until(lambda: bench.node.count_publishers(publisher.topic_name) == 2, "the other publisher")
    assert rivals.fault(100.6) == (f"1 other node publishes on {publisher.topic_name} too: the arm must have one master")
    bench.robot.destroy_publisher(other)
    bench.until(lambda: bench.node.count_publishers(publisher.topic_name) == 1, "the end of the other publisher")
    assert rivals.fault(101.2) == ""
