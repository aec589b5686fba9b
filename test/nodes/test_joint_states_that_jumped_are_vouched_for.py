# SPDX-License-Identifier: Apache-2.0
"""Joint states that have jumped, and stay where they are, let no goal begin before ~/recover or an activation says that the arm
stands so; a simulator that says beforehand where it puts the arm needs neither, nor does an arm that is moved while it is measured."""

import time

import numpy as np
import pytest
from std_msgs.msg import Empty
from std_srvs.srv import Trigger

from vla_sd_ros.control.codes import Code

JUMP = 0.3 * np.eye(7)[1]


def jumped(arm):
    arm.drive(2)
    said = arm.q + JUMP
    arm.run(0.6, position=said.tolist())
    arm.q = said  # it really is there: nothing is sent any more
    return arm


def assert_no_goal_begins(arm):
    before = len(arm.sent)
    arm.drive(goal=2)
    assert len(arm.sent) == before and not arm.status.moving
    assert arm.status.code == Code.JOINT_STATES_INVALID and "until ~/recover is called" in arm.status.message


def assert_the_next_goal_begins_where_the_arm_is(arm, goal=3):
    before, tip = len(arm.sent), arm.tip
    arm.drive(goal=goal)
    assert arm.status.code == Code.OK
    assert np.linalg.norm(arm.path[before] - tip) < 0.01


def test_recover_says_so(arm):
    assert_no_goal_begins(jumped(arm))
    assert arm.node.recovery.ask(Trigger.Request(), Trigger.Response()).success
    arm.measure()
    assert_the_next_goal_begins_where_the_arm_is(arm)


def recovered(arm):
    return arm.node.recovery.ask(Trigger.Request(), Trigger.Response())


def test_recover_says_so_in_a_dry_run_too(arm):
    arm.drive(2)
    arm.node.values["dry_run"] = True
    arm.run(0.6, position=(arm.q + JUMP).tolist())
    assert arm.node.arm_state.lost and recovered(arm).success and not arm.node.arm_state.lost


@pytest.mark.parametrize("nonsense", [[float("nan")] * 7, [9.0] * 7, [0.0]])
def test_nobody_can_vouch_for_what_makes_no_sense(arm, nonsense):
    """And who tried has not switched off that a jump is seen when they make sense again."""
    arm.drive(2)
    arm.run(0.5, position=nonsense)
    recovered(arm)
    arm.run(0.5, position=(arm.q + JUMP).tolist())
    assert_no_goal_begins(arm)


def test_while_two_publish_by_turns_recover_says_that_it_cannot(arm):
    arm.drive(2)
    arm.run(0.6, position=(arm.q + JUMP).tolist())
    assert arm.node.arm_state.lost
    arm.measure(position=(arm.q - JUMP).tolist())
    answer = recovered(arm)
    assert not answer.success and "contradict each other" in answer.message and arm.node.controller.blocked


def test_an_arm_that_stands_where_it_was_sent_is_no_other_though_its_target_was_given_up(arm):
    arm.drive(2)
    arm.node.values["joint_state_timeout"] = 0.1
    arm.command(step=100, translation=(0.05, 0.0, 0.0))
    end = time.monotonic() + 1.2
    while time.monotonic() < end:  # it moves, and nobody hears of it
        time.sleep(0.01)
        arm.node._tick()
    arm.q = arm.node.controller.joints
    arm.node.controller.release("the controllers are not known")
    arm.measure()
    assert not arm.node.arm_state.lost


def test_an_activation_says_so(arm):
    assert_no_goal_begins(jumped(arm))
    arm.lifecycle("deactivate")
    arm.activate()
    arm.measure()
    assert_the_next_goal_begins_where_the_arm_is(arm)


@pytest.mark.parametrize("late, silent", [(0, 0.0), (3, 0.0), (3, 1.3), (0, 1.3)])
def test_a_simulator_said_it_before(arm, late, silent):
    """late: joint states of before its word that are heard after it. silent: how long it takes [s]."""
    arm.drive(2)
    arm.node._on_scene_reset(Empty())
    for _ in range(late):
        arm.measure()
    time.sleep(silent)
    arm.q = arm.q + JUMP
    arm.measure()
    arm.run(0.1)
    assert not arm.node.controller.blocked
    assert_the_next_goal_begins_where_the_arm_is(arm)


def test_a_goal_ends_what_a_simulator_said(arm):
    """It put the arm where it stood: nothing leapt, and what leaps in the next goal is a fault."""
    arm.drive(2)
    arm.node._on_scene_reset(Empty())
    arm.run(0.1)
    arm.drive(2, goal=2)
    arm.run(0.3, position=(arm.q + JUMP).tolist())
    assert arm.status.code == Code.JOINT_STATES_INVALID and "jump" in arm.status.message


def test_a_hand_that_guides_the_arm_between_two_goals_does_no_such_thing(arm):
    arm.drive(2)
    arm.node.controller.release("a test")
    for _ in range(50):
        arm.q = arm.q + 0.02 * JUMP
        arm.run(0.01)
    assert_the_next_goal_begins_where_the_arm_is(arm, goal=2)
