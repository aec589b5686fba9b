# SPDX-License-Identifier: Apache-2.0
"""Joint states that have jumped, and stay where they are, let no goal begin before ~/recover or an activation says that the arm
stands so; a simulator that says beforehand where it puts the arm needs neither, nor does an arm that is moved while it is measured."""

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


def test_an_activation_says_so(arm):
    assert_no_goal_begins(jumped(arm))
    arm.lifecycle("deactivate")
    arm.activate()
    arm.measure()
    assert_the_next_goal_begins_where_the_arm_is(arm)


@pytest.mark.parametrize("late", [0, 3])
def test_a_simulator_said_it_before(arm, late):
    """late: joint states of before its word that are heard after it."""
    arm.drive(2)
    arm.node._on_scene_reset(Empty())
    for _ in range(late):
        arm.measure()
    arm.q = arm.q + JUMP
    arm.measure()
    arm.run(0.1)
    assert not arm.node.controller.blocked
    assert_the_next_goal_begins_where_the_arm_is(arm)


def test_a_hand_that_guides_the_arm_between_two_goals_does_no_such_thing(arm):
    arm.drive(2)
    arm.node.controller.release("a test")
    for _ in range(50):
        arm.q = arm.q + 0.02 * JUMP
        arm.run(0.01)
    assert_the_next_goal_begins_where_the_arm_is(arm, goal=2)
