# SPDX-License-Identifier: Apache-2.0
"""MoveIt Servo is switched to the right kind first, gets fresh commands, moves the arm, and stops it by its codes."""

import numpy as np
import pytest
from controllers import DT, Servo

from vla_sd_ros.arms import make_arm

pytestmark = pytest.mark.usefixtures("standins")
STEP = np.array([0.002, -0.001, 0.001, 0.0, 0.0, 0.004])


@pytest.fixture(params=["servo_twist", "servo_pose"])
def arm(request, bench):
    bench.node.values |= {"arm.interface": request.param, "arm.tip_link": "panda_tcp"}
    arm = make_arm(bench.node)
    yield arm
    arm.close()


def drive(bench, arm, servo, target, ticks, step):
    """Ticks with a target that moves on by `step` (6,) each; returns the last target."""
    for _ in range(ticks):
        bench.now += DT
        target = target.moved(step)
        seen, sends = len(servo.received), arm._servo.ready(bench.now)
        arm.send(bench.now, target, bench.pose, bench.q)
        if sends and arm._servo.ready(bench.now):
            bench.until(lambda: len(servo.received) > seen, "a command at Servo")
        servo.step()
        bench.settle(3)
    return target


def begin(bench, arm, servo):
    """Until commands reach Servo; the target stands still."""
    target = bench.pose
    for _ in range(500):
        drive(bench, arm, servo, target, 1, np.zeros(6))
        if servo.received:
            return target
    raise AssertionError("no command came to Servo")


def test_the_arm_follows_commands_that_come_only_after_the_switch_and_with_fresh_stamps(bench, arm):
    servo = Servo(bench)
    target = begin(bench, arm, servo)
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
    assert arm.fault(bench.now) == ""


def test_the_last_command_before_silence_is_stale_so_that_servo_halts_at_once(bench, arm):
    servo = Servo(bench)
    target = begin(bench, arm, servo)
    drive(bench, arm, servo, target, 3, STEP)
    arm.rest()
    arm.rest()
    bench.until(lambda: servo.received[-1].header.stamp.sec == 0, "the stale command")
    assert [m.header.stamp.sec for m in servo.received[-2:]][0] > 0, "it came more than once"


def test_an_arm_whose_servo_moves_another_link_follows_with_its_tip(bench, arm):
    """Servo's tip is the flange: 0.21 m and 45 degrees from the tip that the targets are for."""
    servo = Servo(bench, "panda_link7")
    arm.offset = type(bench.pose)(*bench.kinematics.offset("panda_link7"))
    target, start = begin(bench, arm, servo), bench.pose
    target = drive(bench, arm, servo, target, 50, np.zeros(6))
    assert np.linalg.norm(bench.pose.displacement_to(start)) < 1e-3, "the arm moved though its target stood still"
    farthest = 0.0
    for _ in range(40):
        target = drive(bench, arm, servo, target, 1, STEP)
        farthest = max(farthest, np.linalg.norm(bench.pose.displacement_to(target)[:3]))
    target = drive(bench, arm, servo, target, 60, np.zeros(6))
    apart = bench.pose.displacement_to(target)
    assert np.linalg.norm(apart[:3]) < 2e-3 and np.linalg.norm(apart[3:]) < 5e-3
    assert farthest < 0.02, "the tip left its way while the hand turned"


def test_its_codes_are_faults_where_it_halts_and_nothing_where_it_slows_down(bench, arm):
    servo = Servo(bench)
    begin(bench, arm, servo)
    for code, halts in ((0, False), (1, False), (2, True), (3, False), (4, False), (5, True), (6, True), (-1, True)):
        servo.code = code
        servo.step()
        bench.until(lambda: bool(arm.fault(bench.now)) == halts, f"the fault of code {code}")
        if halts:
            assert "MoveIt Servo" in arm.fault(bench.now)
    arm.rest()
    assert arm.fault(bench.now) == ""


def test_a_servo_that_is_not_there_is_a_fault_after_a_second(bench, arm):
    assert arm.fault(bench.now) == ""
    assert arm.fault(bench.now + 0.9) == ""
    assert "start MoveIt Servo" in arm.fault(bench.now + 1.1)


def test_a_servo_that_starts_again_is_switched_again(bench, arm):
    servo = Servo(bench)
    target = begin(bench, arm, servo)
    kind, servo.kind, servo.speaks = servo.kind, None, False
    bench.settle()
    bench.now += DT
    arm.send(bench.now, target, bench.pose, bench.q)  # hears the last status
    bench.now += 1.5
    arm.send(bench.now, target, bench.pose, bench.q)
    bench.until(lambda: servo.kind == kind, "the second switch")


@pytest.mark.parametrize("when", ["before the goal", "in the goal"])
def test_a_paused_servo_is_a_fault_after_a_second_though_it_answers_the_switch(bench, arm, when):
    servo = Servo(bench)
    if when == "in the goal":
        begin(bench, arm, servo)
        bench.settle()
        arm.fault(bench.now)  # hears the last status
    servo.speaks, paused_at, fault_at = False, bench.now, None
    bench.until(lambda: arm._servo._client.service_is_ready(), "the service")
    for _ in range(250):
        bench.now += DT
        fault = arm.fault(bench.now)
        fault_at = fault_at or (bench.now if fault else None)
        assert fault_at is None or "it is paused" in fault, "a paused Servo was taken for one that moves the arm"
        received = len(servo.received)
        arm.send(bench.now, bench.pose, bench.pose, bench.q)
        bench.settle(2)
        if fault or when == "before the goal":
            assert len(servo.received) == received, "a paused Servo was sent commands"
    assert 0.9 < fault_at - paused_at <= 1.05
    servo.speaks = True
    servo.step()
    bench.until(lambda: not arm.fault(bench.now), "the end of the fault")


def test_a_twist_stays_within_the_limits_however_far_the_arm_is(bench):
    bench.node.values |= {"arm.interface": "servo_twist", "arm.tip_link": "panda_tcp", "servo.gain": 20.0}
    arm, servo = make_arm(bench.node), Servo(bench)
    begin(bench, arm, servo)
    far = bench.pose.moved(np.array([0.5, 0.5, -0.3, 1.0, 0.0, 1.0]))
    bench.now += DT
    seen = len(servo.received)
    arm.send(bench.now, far, bench.pose, bench.q)
    bench.until(lambda: len(servo.received) > seen, "a twist")
    twist = servo.twist(servo.received[-1])
    assert np.linalg.norm(twist[:3]) == pytest.approx(bench.node.values["limits.linear_velocity"], rel=1e-6)
    assert np.linalg.norm(twist[3:]) == pytest.approx(bench.node.values["limits.angular_velocity"], rel=1e-6)


@pytest.mark.parametrize("interface", ["servo_twist", "servo_pose"])
def test_the_link_that_servo_moves_is_never_guessed(interface, bench):
    bench.node.values |= {"arm.interface": interface, "arm.tip_link": ""}
    with pytest.raises(ValueError, match="needs arm.tip_link, the link in which the planning group of .* ends"):
        make_arm(bench.node)
