# SPDX-License-Identifier: Apache-2.0
"""A block ends the goal that runs, that pauses, or that begins meanwhile: when it is taken back, nothing moves by itself."""

from dataclasses import replace

import numpy as np
import pytest
from test_motion_stays_within_limits import CONFIG, Rig, steady

from vla_sd_ros.control.codes import Code, Fault

HELD = Fault(Code.HELD, "held")


@pytest.fixture
def rig():
    rig = Rig(replace(CONFIG, blend_in=0.0))
    rig.run([(steady(0), 20), (steady(1), 20)])
    return rig


def hold_for_a_moment(rig):
    rig.controller.block("hold", HELD)
    rig.run([])
    rig.tick()
    rig.controller.unblock("hold")


def assert_over(rig, goal=1):
    before = rig.sent[-1].position if rig.sent else np.zeros(3)
    rig.run([(steady(3, goal=goal), 20)] * 3)
    status = rig.controller.status(rig.now)
    assert (status.moving, status.code) == (False, Code.INTERRUPTED) and "the arm was held in this goal" in status.message
    assert np.linalg.norm(rig.sent[-1].position - before) < 1e-6
    rig.run([(steady(0, goal=9), 20)])
    assert rig.controller.status(rig.now).moving


def test_a_goal_that_waits_for_its_next_command_is_over(rig):
    rig.run([(steady(2), 100)])
    assert rig.controller.status(rig.now).code == Code.COMMAND_STALE
    hold_for_a_moment(rig)
    assert_over(rig)


def test_a_goal_that_asked_to_hold_is_over(rig):
    rig.run([(replace(steady(2), hold=True), 100)])
    hold_for_a_moment(rig)
    assert_over(rig)


def test_a_goal_whose_target_was_given_up_is_over(rig):
    rig.run([(replace(steady(2), hold=True), 100)])
    rig.controller.release("something else moved the arm")
    hold_for_a_moment(rig)
    assert_over(rig)


def test_a_goal_that_begins_meanwhile_is_over(rig):
    rig.controller.block("hold", HELD)
    rig.run([(steady(0, goal=5), 20)] * 2)
    rig.controller.unblock("hold")
    assert_over(rig, goal=5)


def test_a_hold_is_told_before_a_fault_that_was_there_already(rig):
    rig.controller.block("switch", Fault(Code.DISABLED, "the switch is not held"))
    rig.controller.block("hold", HELD)
    status = rig.controller.status(rig.now)
    assert (status.code, status.message) == HELD
    rig.controller.unblock("hold")
    assert rig.controller.status(rig.now).code == Code.DISABLED


def test_what_still_comes_of_a_goal_that_moved_tells_of_no_hold_once_that_is_released(rig):
    """Or no goal would be taken any more: vla_node refuses them while the arm is held."""
    hold_for_a_moment(rig)
    rig.run([(replace(steady(2), hold=True), 20)])
    assert rig.controller.status(rig.now).code == Code.INTERRUPTED


def test_after_the_release_the_arm_says_that_it_is_released(rig):
    hold_for_a_moment(rig)
    status = rig.controller.status(rig.now)
    assert (status.moving, status.code) == (False, Code.NO_COMMAND) and "the hold was released" in status.message
