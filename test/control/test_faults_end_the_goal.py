# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the arm, its joint states or the commands stops the motion, has its code, and ends the goal: no
command of it moves the arm again. The next goal moves, once all is well.
"""

from dataclasses import replace

import numpy as np
import pytest
from test_motion_stays_within_limits import CONFIG, TICK, Rig, steady

from vla_sd_ros.control.codes import Code, Fault
from vla_sd_ros.control.following import FollowLimits
from vla_sd_ros.control.joint_states import JointStateWatch
from vla_sd_ros.kinematics.pose import Pose

WIDE = replace(CONFIG, workspace_low=np.full(3, -1.0), workspace_high=np.full(3, 1.0), blend_in=0.0)


@pytest.fixture
def rig():
    """An arm in the middle of its third command."""
    rig = Rig(WIDE)
    rig.run([(steady(0), 20), (steady(1), 20), (steady(2), 10)])
    assert rig.controller.status(rig.now).moving
    return rig


def assert_over(rig, code, goal=1):
    """The goal is over with this code; more of its commands change nothing; the next goal moves."""
    rig.run([(steady(3, goal=goal), 20)] * 5)
    status = rig.controller.status(rig.now)
    assert (status.moving, status.code) == (False, code) and status.message
    assert rig.controller.at_rest
    rig.measured = rig.controller.measured
    before = rig.sent[-1].position
    rig.run([(steady(0, goal=9), 60)])
    assert rig.sent[-1].position[0] > before[0] + 0.02


def test_a_block_lasts_until_it_is_taken_back(rig):
    rig.controller.block("hold", Fault(Code.HELD, "held"))
    rig.run([(steady(0, goal=5), 20)] * 3)
    assert rig.controller.at_rest and rig.controller.status(rig.now).code == Code.HELD
    rig.controller.unblock("hold")
    assert_over(rig, Code.INTERRUPTED, goal=5)


def test_a_robot_that_refuses_ends_the_goal(rig):
    rig.controller.end(Fault(Code.ROBOT_FAULT, "the driver says no"))
    assert_over(rig, Code.ROBOT_FAULT)


@pytest.mark.parametrize("covered", ["hold", "release"])
def test_a_fault_that_something_else_covers_comes_back_with_the_goals_next_command(rig, covered):
    """Or vla_node would go on commanding an arm that refuses, until a limit ends the goal."""
    rig.controller.end(Fault(Code.ROBOT_FAULT, "the driver says no"))
    getattr(rig.controller, covered)("for another reason")
    assert rig.controller.status(rig.now).code == Code.NO_COMMAND
    rig.run([(steady(3), 20)])
    status = rig.controller.status(rig.now)
    assert (status.code, status.message) == (Code.ROBOT_FAULT, "the driver says no")


def test_an_arm_that_stands_still_is_noticed_and_the_hold_is_a_hold():
    rig = Rig(replace(WIDE, follow=FollowLimits(timeout=0.3)))
    stuck = Pose(np.zeros(3), np.eye(3))
    for step in range(300):
        if step % 20 == 0:
            rig.controller.command(steady(step // 20, translation=(0.03, 0.0, 0.0) if step < 60 else (0.0, 0.0, 0.0)), rig.now)
        rig.tick(measure=False)
        rig.controller.measure(stuck, rig.now)
    assert rig.controller.status(rig.now).code == Code.ARM_NOT_FOLLOWING
    held = rig.sent[-1].position
    assert held[0] > 0.04 and all(np.array_equal(pose.position, held) for pose in rig.sent[-100:])


def test_an_arm_far_from_its_target_is_noticed_at_once(rig):
    pushed = rig.sent[-1].moved(np.array([0.0, 0.13, 0.0, 0.0, 0.0, 0.0]))
    rig.measured = pushed
    rig.controller.measure(pushed, rig.now)
    assert rig.controller.status(rig.now).code == Code.ARM_DEVIATES
    for _ in range(90):
        rig.tick(measure=False)
        rig.controller.measure(pushed, rig.now)
    assert all(abs(pose.position[1]) < 1e-9 for pose in rig.sent)  # it does not follow the arm


def test_an_arm_that_lags_is_not_accused():
    rig = Rig(WIDE)
    lag, fastest = [], 0.0
    for step in range(400):
        if step % 20 == 0 and step < 300:
            rig.controller.command(steady(step // 20, translation=(0.05, 0.0, 0.0)), rig.now)
        rig.now += TICK
        lag.append(rig.controller.tick(rig.now))
        rig.controller.measure(lag[max(0, step - 15)], rig.now)
        fastest = max(fastest, np.linalg.norm(lag[step].position - lag[max(0, step - 15)].position))
        assert rig.controller.status(rig.now).code in (Code.OK, Code.COMMAND_STALE)
    assert fastest > 0.03


def test_without_the_enabling_switch_nothing_moves_and_letting_go_ends_the_goal():
    rig = Rig(replace(WIDE, enable_required=True, enable_timeout=0.3))
    rig.tick()
    rig.run([(steady(0), 20)])
    assert not rig.sent and rig.controller.status(rig.now).code == Code.DISABLED
    for _ in range(3):
        rig.controller.switch.see(True, rig.now)
        rig.run([(steady(1, goal=2), 20)])
    assert rig.controller.status(rig.now).moving
    rig.controller.switch.see(False, rig.now)
    rig.run([(steady(2, goal=2), 20), (steady(3, goal=2), 20)])
    assert rig.controller.at_rest and rig.controller.status(rig.now).code == Code.DISABLED
    rig.controller.switch.see(True, rig.now)
    rig.run([(steady(4, goal=2), 20)])
    assert rig.controller.at_rest


def test_a_command_from_an_old_or_a_future_image_is_refused(rig):
    for age in (6.0, -6.0):
        rig.controller.command(replace(steady(3), age=age), rig.now)
        status = rig.controller.status(rig.now)
        assert status.code == Code.COMMAND_INVALID and "command_max_age" in status.message


def test_a_scaled_action_goes_its_share():
    rig = Rig(replace(WIDE, action_scale=0.5))
    rig.run([(steady(0), 60)])
    np.testing.assert_allclose(rig.sent[-1].position, [0.015, 0.0, 0.0], atol=1e-6)


def test_a_goal_begins_slowly():
    fast, slow = Rig(WIDE), Rig(replace(WIDE, blend_in=1.0))
    for rig in (fast, slow):
        rig.run([(steady(0, translation=(0.05, 0.0, 0.0)), 20), (steady(1, translation=(0.05, 0.0, 0.0)), 200)])
    speeds = [np.abs(rig.displacements()[:12, 0]).max() / TICK for rig in (fast, slow)]
    assert speeds[1] <= 0.13 * 0.6 / np.sqrt(3.0) and speeds[0] > 0.15


LOWER, UPPER, VELOCITY = np.full(2, -2.0), np.full(2, 2.0), np.full(2, 2.0)


class Joints:
    """A watch that has seen a joint at rest for half a second, at 100 Hz."""

    def __init__(self):
        self.watch, self.now, self.clock = JointStateWatch(["a", "b"], LOWER, UPPER, VELOCITY), 50.0, 1000.0
        assert all(self.see([0.0, 0.5]) is None for _ in range(50))

    def see(self, q, passed=0.01, stamped=None):
        self.now += passed
        self.clock += passed if stamped is None else stamped
        return self.watch.check(np.array(q), self.clock, self.now)


@pytest.mark.parametrize(
    "q, words",
    [
        ([0.0, np.nan], "'b' is not finite"),
        ([np.inf, 0.5], "'a' is not finite"),
        ([-2.2, 0.5], "not the joint states of this arm"),
        ([0.0, 0.8], "'b' jumped from 0.50 to 0.80"),
    ],
)
def test_joint_states_of_no_arm_or_another_are_named(q, words):
    fault = Joints().see(q)
    assert fault.code == Code.JOINT_STATES_INVALID and words in fault.message


def test_after_a_jump_joint_states_must_agree_for_a_while():
    joints = Joints()
    faults = [joints.see([0.0, 0.9])] + [joints.see([0.0, 0.5]) for _ in range(12)]
    assert all(faults[:10]) and faults[-1] is None


@pytest.mark.parametrize("between", [[], [[0.0, np.nan]], [[0.0, 2.5]] * 200])  # what comes between makes no sense itself
def test_a_jump_that_lasts_is_believed_only_when_somebody_says_so(between):
    joints = Joints()
    assert all(joints.see(q) for q in between + [[0.0, 0.9]] * 200)
    assert joints.watch.lost and "'b' is said to be at 0.90, but was at 0.50" in joints.see([0.0, 0.9]).message
    assert joints.watch.vouch(joints.now + 1.0)
    assert joints.see([0.0, 0.9]) is None and not joints.watch.lost
    assert joints.see([0.0, 0.5]) is not None


def test_two_arms_by_turns_are_never_believed():
    joints = Joints()
    assert all(joints.see([0.0, 0.9 if i % 2 == 0 else 0.5]) for i in range(100))


def test_the_fastest_motion_of_the_arm_is_no_jump_even_when_messages_are_late():
    joints, q = Joints(), 0.5
    for i in range(60):
        q += 2.0 * 0.01
        assert joints.see([0.0, q], passed=0.019 if i % 2 else 0.001) is None


def test_messages_that_were_held_up_and_come_at_once_are_no_jump_but_a_jump_between_their_stamps_is():
    joints = Joints()
    assert joints.see([0.0, 0.5], passed=0.3, stamped=0.0) is None
    assert [joints.see([0.0, 0.5 + 0.1 * i], passed=0.0, stamped=0.06) for i in range(1, 6)] == [None] * 5
    assert "jumped from 1.00 to 1.40 in 0.010 s" in joints.see([0.0, 1.4], passed=0.001, stamped=0.01).message


@pytest.mark.parametrize("stamped", [-3.0, 3.0])
def test_a_clock_that_is_set_is_noticed(stamped):
    joints = Joints()
    assert joints.see([0.0, 0.5], stamped=stamped).code == Code.CLOCK_JUMP
    assert [joints.see([0.0, 0.5]) for _ in range(12)][-1] is None


def test_joint_states_without_stamps_are_taken():
    joints = Joints()
    joints.clock = 0.0
    assert joints.see([0.0, 0.5], stamped=0.0) is None


def test_a_hold_that_is_asked_for_keeps_the_fault_of_the_goal(rig):
    rig.controller.end(Fault(Code.ROBOT_FAULT, "the driver says no"))
    rig.run([(replace(steady(3), hold=True), 20)])
    status = rig.controller.status(rig.now)
    assert status.code == Code.ROBOT_FAULT and status.message == "the driver says no"


def test_a_goal_may_be_ended_while_it_pauses(rig):
    rig.run([(replace(steady(3), hold=True), 20)] * 3)
    rig.controller.fail(Fault(Code.HELD, "something else was decided"))
    assert_over(rig, Code.HELD)


def test_activation_forgives_no_goal(rig):
    rig.controller.end(Fault(Code.ROBOT_FAULT, "the driver says no"))
    before = rig.controller
    rig.controller = before.successor(rig.now)
    rig.controller.measure(rig.measured, rig.now)
    rig.run([(steady(3), 20)] * 3)
    status = rig.controller.status(rig.now)
    assert rig.controller.at_rest and status.code == Code.ROBOT_FAULT, status


def test_activation_ends_the_goal_that_ran(rig):
    rig.controller = rig.controller.successor(rig.now)
    rig.controller.measure(rig.measured, rig.now)
    rig.run([(steady(3), 20)] * 3)
    status = rig.controller.status(rig.now)
    assert rig.controller.at_rest and status.code == Code.NO_COMMAND and "send it again" not in status.message
    assert "the goal of before is over" in status.message
