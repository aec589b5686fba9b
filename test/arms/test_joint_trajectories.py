# SPDX-License-Identifier: Apache-2.0
"""joint_trajectory: the joints of each target reach the robot through a joint_trajectory_controller, whatever it starts from."""

import numpy as np
import pytest
from controllers import DT, TrajectoryController

from vla_sd_ros.arms import make_arm

SAG = 0.01  # rad, of every joint under its load
LARGEST_ERROR = 0.015  # rad, at rest
STEP = np.array([0.002, 0.002, -0.001, 0.0, 0.004, 0.0])


@pytest.fixture
def arm(bench):
    bench.node.values |= {"arm.interface": "joint_trajectory"}
    return make_arm(bench.node)


def drive(bench, arm, controller, target, ticks, step, late=frozenset()):
    """Targets that move on by `step` (6,) each tick; messages of the ticks in `late` come a tick later, with the next."""
    for tick in range(ticks):
        bench.now += DT
        target = target.moved(step)
        seen = len(controller.received)
        arm.send(bench.now, target, bench.pose, bench.joints(target))
        if tick not in late:
            bench.until(lambda: len(controller.received) > seen, "a trajectory")
        controller.step()
    return target


@pytest.mark.parametrize("from_desired", [False, True])
@pytest.mark.parametrize("rate", [100.0, 200.0, 1000.0])
def test_the_arm_follows_and_rests_where_it_was_sent_though_it_sags(bench, arm, rate, from_desired):
    controller = TrajectoryController(bench, rate, SAG, from_desired)
    bench.until(arm._publisher.get_subscription_count, "the controller")
    target = drive(bench, arm, controller, bench.pose, 50, STEP)
    wanted = bench.joints(target)
    assert np.abs(bench.q - wanted).max() < 0.15, "the arm is late by more than the time of a message"
    drive(bench, arm, controller, target, 100, np.zeros(6))
    assert np.abs(bench.q - bench.joints(target)).max() <= LARGEST_ERROR
    assert controller.rejected == 0


def test_an_arm_that_does_not_sag_reaches_the_pose_without_leaps_though_messages_are_late(bench, arm):
    controller = TrajectoryController(bench)
    bench.until(arm._publisher.get_subscription_count, "the controller")
    late = set(np.random.default_rng(0).choice(50, 12, replace=False).tolist())
    target = drive(bench, arm, controller, bench.pose, 50, STEP, late)
    target = drive(bench, arm, controller, target, 80, np.zeros(6))
    apart = bench.pose.displacement_to(target)
    assert np.linalg.norm(apart[:3]) < 1e-3 and np.linalg.norm(apart[3:]) < 2e-3
    assert controller.rejected == 0
    assert np.abs(np.diff(controller.commands, axis=0)).max() < 0.05, "the joints leapt"


def test_a_topic_that_nobody_listens_to_is_a_fault_after_a_second(bench, arm):
    assert arm.fault(bench.now) == ""
    assert "nobody listens to /vla/joint_trajectory" in arm.fault(bench.now + 1.5)
    arm.rest()
    assert arm.fault(bench.now + 1.5) == ""
