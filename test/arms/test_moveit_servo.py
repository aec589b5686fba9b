# SPDX-License-Identifier: Apache-2.0
"""MoveIt Servo is switched to the right kind first, gets fresh commands, moves the arm, and stops it by its codes."""

import numpy as np
import pytest
from conftest import DT
from controllers import Servo

from vla_sd_ros.arms import make_arm

pytestmark = pytest.mark.usefixtures("standins")
STEP = np.array([0.002, -0.001, 0.001, 0.0, 0.0, 0.004])


@pytest.fixture(params=["servo_twist", "servo_pose"])
def arm(request, bench):
    bench.node.values["arm.interface"] = request.param
    arm = make_arm(bench.node)
    yield arm
    arm.close()


def drive(bench, arm, servo, target, ticks, step):
    """Ticks with a target that moves on by `step` (6,) each; returns the last target."""
    for _ in range(ticks):
        bench.now += DT
        target = target.moved(step)
        seen, sends = len(servo.received), arm._servo.ready
        arm.send(bench.now, target, bench.pose, bench.q)
        if sends and arm._servo.ready:
            bench.until(lambda: len(servo.received) > seen, "a command at Servo")
        servo.step()
        bench.settle(3)
    return target


def test_the_arm_follows_commands_that_come_only_after_the_switch_and_with_fresh_stamps(bench, arm):
    servo, target = Servo(bench), bench.pose
    for _ in range(500):  # the target stands still until Servo is there
        drive(bench, arm, servo, target, 1, np.zeros(6))
        if arm._servo.ready:
            break
    target = drive(bench, arm, servo, target, 3, np.zeros(6))
    before = bench.node.get_clock().now().nanoseconds
    target = drive(bench, arm, servo, target, 40, STEP)
    target = drive(bench, arm, servo, target, 60, np.zeros(6))
    apart = bench.pose.displacement_to(target)
    assert np.linalg.norm(apart[:3]) < 2e-3 and np.linalg.norm(apart[3:]) < 5e-3
    assert servo.before_switch == 0, "a command came of a kind that Servo was not switched to"
    stamps = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in servo.received[-100:]]
    assert stamps[0] >= before and np.all(np.diff(stamps) > 0), "a stamp was used again"
    assert {m.header.frame_id for m in servo.received} == {bench.node.values["base_frame"]}
    assert arm.fault() == ""


def test_its_codes_are_faults_where_it_halts_and_nothing_where_it_slows_down(bench, arm):
    servo, target = Servo(bench), bench.pose
    for code, halts in ((0, False), (1, False), (2, True), (3, False), (4, False), (5, True), (6, True), (-1, True)):
        servo.code = code
        servo.step()
        bench.until(lambda: bool(arm.fault()) == halts, f"the fault of code {code}")
        if halts:
            assert "MoveIt Servo" in arm.fault()
    arm.rest()
    assert arm.fault() == ""


def test_a_servo_that_is_not_there_is_a_fault(bench, arm):
    for _ in range(3):
        arm.send(bench.now, bench.pose, bench.pose, bench.q)
        assert arm.fault() == ""
        bench.now += 0.4
    bench.now += 1.1
    arm.send(bench.now, bench.pose, bench.pose, bench.q)
    assert "start MoveIt Servo" in arm.fault()


def test_a_servo_that_starts_again_is_switched_again(bench, arm):
    servo, target = Servo(bench), bench.pose
    for _ in range(500):
        drive(bench, arm, servo, target, 1, np.zeros(6))
        if arm._servo.ready:
            break
    kind, servo.kind, servo.speaks = servo.kind, None, False
    bench.settle()
    bench.now += DT
    arm.send(bench.now, target, bench.pose, bench.q)  # hears the last status
    bench.now += 1.5
    arm.send(bench.now, target, bench.pose, bench.q)
    bench.until(lambda: servo.kind == kind, "the second switch")


def test_a_twist_stays_within_the_limits_however_far_the_arm_is(bench):
    bench.node.values |= {"arm.interface": "servo_twist", "servo.gain": 20.0}
    arm, servo = make_arm(bench.node), Servo(bench)
    for _ in range(500):
        drive(bench, arm, servo, bench.pose, 1, np.zeros(6))
        if arm._servo.ready:
            break
    far = bench.pose.moved(np.array([0.5, 0.5, -0.3, 1.0, 0.0, 1.0]))
    bench.now += DT
    arm.send(bench.now, far, bench.pose, bench.q)
    seen = len(servo.received)
    bench.until(lambda: len(servo.received) >= seen, "a twist")
    bench.settle()
    twist = servo._twist(servo.received[-1])
    assert np.linalg.norm(twist[:3]) == pytest.approx(bench.node.values["limits.linear_velocity"], rel=1e-6)
    assert np.linalg.norm(twist[3:]) == pytest.approx(bench.node.values["limits.angular_velocity"], rel=1e-6)
