# SPDX-License-Identifier: Apache-2.0
"""joint_trajectory: the joints of each target reach the robot through a joint_trajectory_controller."""

import numpy as np
import pytest
from conftest import DT
from controllers import TrajectoryController

from vla_sd_ros.arms import make_arm


@pytest.fixture
def arm(bench):
    bench.node.values |= {"arm.interface": "joint_trajectory"}
    return make_arm(bench.node)


def drive(bench, arm, controller, target, ticks, step):
    for _ in range(ticks):
        bench.now += DT
        target = target.moved(step)
        seen = len(controller.received)
        arm.send(bench.now, target, bench.pose, bench.joints(target))
        bench.until(lambda: arm.fault() or len(controller.received) > seen, "a trajectory")
        controller.step()
    return target


def test_the_arm_follows_through_a_joint_trajectory_controller(bench, arm):
    controller = TrajectoryController(bench)
    bench.until(arm._publisher.get_subscription_count, "the controller")
    target = drive(bench, arm, controller, bench.pose, 50, np.array([0.002, 0.002, -0.001, 0.0, 0.004, 0.0]))
    target = drive(bench, arm, controller, target, 80, np.zeros(6))
    apart = bench.pose.displacement_to(target)
    assert np.linalg.norm(apart[:3]) < 1e-3 and np.linalg.norm(apart[3:]) < 2e-3
    assert controller.rejected == 0 and arm.fault() == ""
    path = np.array([point.positions for point in controller.received])
    assert np.abs(np.diff(path, axis=0)).max() < 0.05, "the joints leapt"


def test_a_topic_that_nobody_listens_to_is_a_fault_after_a_second(bench, arm):
    arm.send(bench.now, bench.pose, bench.pose, bench.q)
    assert arm.fault() == ""
    bench.now += 1.5
    arm.send(bench.now, bench.pose, bench.pose, bench.q)
    assert "nobody listens to /vla/joint_trajectory" in arm.fault()
    arm.rest()
    assert arm.fault() == ""
