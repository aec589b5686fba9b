# SPDX-License-Identifier: Apache-2.0
"""A command that comes again, by a relay, a bridge, an echo or a bag that is played, does not move the arm again. One such copy is
refused and no more; several in a row are those of a second publisher, and end in a hold that says so.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plants import HOME, Plant, Run
from test_a_wrong_frame_does_not_run_away import CONFIG
from test_motion_stays_within_limits import steady

from vla_sd_ros.control.codes import Code
from vla_sd_ros.control.controller import ArmController
from vla_sd_ros.control.one_master import PERIOD

STEP = 0.01  # m
BETWEEN = 15  # commands of 0.2 s between two copies that are no conflict: more than PERIOD


def new_run():
    return Run(ArmController(CONFIG, 100.0), Plant())


def send(run, step):
    return run.controller.command(steady(step, translation=(0.0, STEP, 0.0)), run.now)


def way(run):
    return (run.plant.pose.position - HOME.position)[1]


def assert_conflict(run):
    status = run.controller.status(run.now)
    assert (status.moving, status.code) == (False, Code.COMMAND_CONFLICT)
    assert "commands come again" in status.message and "a relay, a bridge, a bag" in status.message


@pytest.mark.parametrize("times", [2, 3, 5])
@pytest.mark.parametrize("apart", [0, 1, 4])
def test_commands_that_all_come_several_times_move_the_arm_by_no_more_than_once(times, apart):
    """apart: ticks between two copies."""
    run = new_run()
    for step in range(15):
        for _ in range(times):
            send(run, step)
            run.ticks(apart)
        run.ticks(20 - times * apart)
    assert_conflict(run)
    assert way(run) <= 2 * STEP + 1e-4, "those that came before it was a conflict"
    assert run.controller.at_rest


@pytest.mark.parametrize("late", [0, 1, 2, 4])
def test_a_single_copy_changes_nothing_however_late_it_comes(late):
    once, again = new_run(), new_run()
    for step in range(3 * BETWEEN):
        for run in (once, again):
            send(run, step)
            run.ticks(7)
        if step % BETWEEN == BETWEEN - 1:
            assert send(again, step - late) is None
        for run in (once, again):
            run.ticks(13)
        assert again.controller.status(again.now).code == Code.OK
    np.testing.assert_array_equal([p.position for p in again.poses], [p.position for p in once.poses])
    assert (again.controller.status(again.now).refused, once.controller.status(once.now).refused) == (3, 0)


def test_a_bag_that_is_played_of_the_same_goal_is_a_conflict():
    run = new_run()
    for step in range(10):
        send(run, step)
        run.ticks(20)
    before = way(run)
    for step in range(10):
        send(run, step)
        run.ticks(20)
    assert_conflict(run)
    assert way(run) - before < STEP


def test_copies_of_the_last_command_do_not_keep_a_goal_alive():
    run = new_run()
    send(run, 0)
    run.ticks(40)
    send(run, 0)
    run.ticks(15)
    assert run.controller.status(run.now).code == Code.COMMAND_STALE


def test_the_next_goal_begins_at_its_own_first_step_and_the_conflict_ends_with_the_copies():
    run = new_run()
    for step in (0, 0, 0):
        send(run, step)
        run.ticks(1)
    assert_conflict(run)
    run.ticks(round(100 * PERIOD) + 1)
    run.controller.command(steady(1), run.now)
    assert not run.controller.status(run.now).moving, "its goal is over"
    run.ticks(20)
    run.controller.command(steady(0, goal=2), run.now)
    assert run.controller.status(run.now).moving


def test_a_goal_that_holds_and_goes_on_with_the_step_that_it_held_at_moves():
    """So does vla_node: it counts commands, and a hold is none."""
    run = new_run()
    for step in range(3):
        send(run, step)
        run.ticks(20)
        held = steady(step + 1)
        object.__setattr__(held, "hold", True)
        for _ in range(3):
            run.controller.command(held, run.now)
            run.ticks(10)
    assert abs(way(run) - 3 * STEP) < 0.006  # a hold stops it on its way
    assert run.controller.status(run.now).refused == 0


copies = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 19)), max_size=4)


@settings(max_examples=60)
@given(st.lists(copies, min_size=1, max_size=20))
def test_whatever_copies_come_the_arm_goes_no_farther_than_each_command_once(drawn):
    """Each turn: a command, then copies of it or of those before it, so many steps back, at a tick of its period."""
    run = new_run()
    for step, late in enumerate(drawn):
        send(run, step)
        for tick in range(20):
            for back, _ in [copy for copy in late if copy[1] == tick]:
                send(run, max(step - back, 0))
            run.ticks(1)
        assert way(run) <= (step + 1) * STEP + 1e-6
