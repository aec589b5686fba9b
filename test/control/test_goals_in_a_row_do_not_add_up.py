# SPDX-License-Identifier: Apache-2.0
"""An arm that stands off its target by a little, under a load or by a tip that is not quite the controller's, is off by that once:
goal after goal begins at the target that was held. One that has been moved begins where it is.
"""

from dataclasses import replace

import numpy as np
import pytest
from plants import HOME, Plant, Run, offset
from test_a_wrong_frame_does_not_run_away import CONFIG, ZERO
from test_motion_stays_within_limits import steady

from vla_sd_ros.control.codes import Code
from vla_sd_ros.control.controller import ArmController
from vla_sd_ros.kinematics.pose import Pose

GOALS = range(2, 22)
SAG = np.array([0.0, 0.0, -0.005])


def goals(run, between, translation=(0.0, 0.0, 0.0), numbers=GOALS):
    """Goals of three commands; what is done `between` two of them, and a pause."""
    for goal in numbers:
        run.commands([steady(i, translation=translation, goal=goal) for i in range(3)])
        assert run.controller.status(run.now).code == Code.OK, run.controller.status(run.now)
        between(run)
        run.ticks(40)


def held(run):
    run.controller.command(replace(steady(0), hold=True), run.now)


def joint_states_missing(run):
    run.now += 1.0
    run.ticks(1)


@pytest.mark.parametrize("between", [held, joint_states_missing])
@pytest.mark.parametrize(
    "plant, once",
    [
        ({"sag": SAG}, 0.005),
        ({"frame": offset((0.0, 0.007, 0.0), (0, 0, 0))}, 0.007),
        ({"frame": offset((0, 0, 0), (0.05, 0, 0))}, 0.0),
    ],
)
def test_what_the_arm_stands_off_counts_once(plant, once, between):
    run = Run(ArmController(CONFIG, 100.0), Plant(**plant))
    goals(run, between)
    assert run.moved < once + 0.001
    assert np.linalg.norm(run.plant.pose.displacement_to(HOME)[3:]) < 0.051


def test_a_load_that_came_in_motion_counts_once_too():
    """More than a goal may be off as it begins, less than it may be off on its way."""
    run = Run(ArmController(CONFIG, 100.0), Plant())
    run.commands([steady(i, translation=(0.02, 0.0, 0.0)) for i in range(6)])
    run.plant._sag = 4.0 * SAG
    run.commands([steady(i, translation=(0.02, 0.0, 0.0)) for i in range(6, 9)])
    goals(run, held)
    assert HOME.position[2] - run.plant.pose.position[2] < 0.021


def test_the_way_of_a_sagging_arm_is_the_sum_of_its_steps():
    run = Run(ArmController(CONFIG, 100.0), Plant(sag=SAG))
    goals(run, held, translation=(0.0, 0.01, 0.0), numbers=range(2, 7))
    np.testing.assert_allclose(run.plant.pose.position - HOME.position, [0.0, 0.15, -0.005], atol=0.001)


@pytest.mark.parametrize("by", [0.04, 0.07])
def test_an_arm_that_is_moved_by_hand_between_goals_begins_where_it_is(by):
    """Its controller yields, or was switched off: with the target still held, and after it was given up."""
    run = Run(ArmController(CONFIG, 100.0), Plant())
    run.commands(ZERO)
    held(run)
    run.ticks(150)
    here = run.plant.pose
    run.plant = Plant(start=here)
    run.plant.step = lambda target: run.plant.pose
    for share in np.linspace(0.0, 1.0, 100):
        run.plant.pose = Pose(here.position + np.array([0.0, share * by, 0.0]), here.rotation)
        run.ticks(1)
    run.ticks(5)
    del run.plant.step
    run.plant._target = run.plant.pose
    for index in range(5):
        run.controller.command(steady(index, translation=(0.0, 0.0, 0.0), goal=2), run.now)
        run.ticks(20)
    np.testing.assert_allclose(run.sent[-1].position, here.position + np.array([0.0, by, 0.0]), atol=1e-3)


def test_a_target_that_was_given_up_and_a_new_activation_begin_at_the_measured_pose():
    run = Run(ArmController(CONFIG, 100.0), Plant(sag=SAG))
    goals(run, held, numbers=[2])
    sagging = run.plant.pose.position
    run.controller.release("a test")
    run.controller.command(steady(0, translation=(0.0, 0.0, 0.0), goal=3), run.now)
    np.testing.assert_allclose(run.controller.tick(run.now).position, sagging, atol=1e-6)
    run.controller = run.controller.successor(run.now)
    run.controller.measure(run.plant.pose, run.now)
    run.controller.command(steady(0, translation=(0.0, 0.0, 0.0), goal=4), run.now)
    np.testing.assert_allclose(run.controller.tick(run.now).position, run.plant.pose.position, atol=1e-6)


def test_a_dry_run_shows_each_goal_from_the_arm():
    """Nothing is sent, so the arm is not at the target of the goal before."""
    run = Run(ArmController(replace(CONFIG, dry_run=True), 100.0), Plant())
    run.plant.step = lambda target: run.plant.pose
    for goal in (2, 3):
        run.commands([steady(i, translation=(0.0, 0.005, 0.0), goal=goal) for i in range(2)])
        held(run)
        run.ticks(40)
    np.testing.assert_allclose(run.sent[-1].position, HOME.position + np.array([0.0, 0.01, 0.0]), atol=1e-6)
