# SPDX-License-Identifier: Apache-2.0
"""Commands of a second publisher end in a hold that lasts for as long as they come, and hardly move the arm before."""

from dataclasses import replace

import numpy as np
import pytest
from test_motion_stays_within_limits import CONFIG, Rig, steady

from vla_sd_ros.control.codes import Code
from vla_sd_ros.control.one_master import PERIOD

STEP = (0.0, 0.05, 0.0)  # of the second publisher; vla_node goes along x


@pytest.fixture
def rig():
    """In a box that is wide enough for an arm that was taken over."""
    return Rig(replace(CONFIG, workspace_low=np.full(3, -1.0), workspace_high=np.full(3, 1.0)))


def assert_conflict(rig, words):
    status = rig.controller.status(rig.now)
    assert (status.moving, status.code) == (False, Code.COMMAND_CONFLICT) and words in status.message
    assert rig.controller.at_rest


@pytest.mark.parametrize("rate", [2.0, 5.0, 20.0])
def test_a_publisher_with_a_new_goal_in_each_message_does_not_have_the_arm(rig, rate):
    rig.run([(steady(0, goal=goal, translation=STEP), round(100 / rate)) for goal in range(1, round(10 * rate))])
    assert_conflict(rig, "more than 3 goals began within 2 s")
    assert np.linalg.norm(rig.sent[-1].position) < 0.16, "in ten seconds: three goals of one command, no more"


def test_beside_a_goal_that_runs_it_moves_the_arm_by_one_command_at_most(rig):
    rig.run([(steady(0), 20)] * 5)
    before = rig.sent[-1].position
    rig.run(
        [
            (steady(5 + i, goal=goal, translation=STEP if goal > 1 else (0.03, 0.0, 0.0)), 10)
            for i in range(50)
            for goal in (2 + i, 1)
        ]
    )
    assert_conflict(rig, "commands of two goals come by turns")
    assert abs(rig.sent[-1].position - before)[1] < 0.05


def test_the_conflict_lasts_until_one_publisher_is_left(rig):
    turns = [(steady(0, goal=1), 10), (steady(0, goal=2), 10)]
    rig.run(turns * 5)
    assert_conflict(rig, "look for a second publisher of command")
    rig.run([(steady(1, goal=3), 20)])
    assert_conflict(rig, "by turns")
    for _ in range(round(100 * PERIOD)):
        rig.tick()
    rig.run([(steady(0, goal=3), 20)])
    assert not rig.controller.status(rig.now).moving, "this goal was refused, so it is over"
    rig.run([(steady(0, goal=4), 20)])
    assert rig.controller.status(rig.now).moving


def test_a_client_that_changes_its_mind_every_second_is_none(rig):
    for goal in range(1, 9):
        rig.run([(steady(step, goal=goal), 20) for step in range(4)])
        assert rig.controller.status(rig.now).moving
