# SPDX-License-Identifier: Apache-2.0
"""pose_target: the target itself; no listener is a fault."""

import time

import numpy as np
import pinocchio as pin
from geometry_msgs.msg import PoseStamped

from vla_sd_ros.arms import make_arm


def send(bench, arm, after=0.6):
    bench.now += after
    arm.send(bench.now, bench.pose, bench.pose, bench.q)


def test_the_pose_arrives_as_it_was_sent(bench):
    arm, seen = make_arm(bench.node), []
    bench.robot.create_subscription(PoseStamped, "target_pose", seen.append, 10)
    bench.until(arm._publisher.get_subscription_count, "the controller")
    send(bench, arm)
    bench.until(lambda: seen, "a pose")
    p, o = seen[0].pose.position, seen[0].pose.orientation
    np.testing.assert_allclose([p.x, p.y, p.z], bench.pose.position)
    np.testing.assert_allclose(pin.Quaternion(o.w, o.x, o.y, o.z).matrix(), bench.pose.rotation, atol=1e-9)
    assert seen[0].header.frame_id == "panda_link0" and arm.fault() == ""


def test_the_stamp_is_of_the_moment_that_the_target_is_for(bench):
    arm, seen = make_arm(bench.node), []
    bench.robot.create_subscription(PoseStamped, "target_pose", seen.append, 10)
    bench.until(arm._publisher.get_subscription_count, "the controller")
    moment, stamp = time.monotonic(), bench.node.get_clock().now().nanoseconds
    time.sleep(0.2)     # the thread waits for its turn
    arm.send(moment, bench.pose, bench.pose, bench.q)
    bench.until(lambda: seen, "a pose")
    sent = seen[0].header.stamp.sec * 10**9 + seen[0].header.stamp.nanosec
    assert abs(sent - stamp) < 50e6


def test_nobody_who_listens_is_a_fault_after_a_second(bench):
    arm = make_arm(bench.node)
    send(bench, arm)
    assert arm.fault() == ""
    send(bench, arm, 1.1)
    assert "nobody listens to /vla/target_pose" in arm.fault()
