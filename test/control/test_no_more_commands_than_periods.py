# SPDX-License-Identifier: Apache-2.0
"""Commands of one goal move the arm by no more than one step in each period, however fast they come; those that are late on their way,
and then come close together, are all executed.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plants import HOME, Plant, Run
from test_a_wrong_frame_does_not_run_away import CONFIG
from test_motion_stays_within_limits import steady

from vla_sd_ros.control.codes import Code
from vla_sd_ros.control.controller import ArmController
from vla_sd_ros.control.one_master import PACE
from vla_sd_ros.watching.inputs import Pacer, Sample

LIMIT, P = 0.05, 0.2  # m, s: of one step


def new_run():
    return Run(ArmController(CONFIG, 100.0), Plant())


def way(run):
    return (run.plant.pose.position - HOME.position)[1]


@pytest.mark.parametrize("every", [1, 2, 5, 10])
@pytest.mark.parametrize("size", [0.01, 0.05])
def test_commands_that_come_much_faster_are_a_conflict_before_the_arm_has_gone_far(every, size):
    run = new_run()
    for step in range(200):
        run.controller.command(steady(step, translation=(0.0, size, 0.0)), run.now)
        run.ticks(every)
        seconds = (step + 1) * every * 0.01
        assert way(run) <= size * (1 + (seconds + CONFIG.command_timeout) / (PACE * P)) + 1e-6
    status = run.controller.status(run.now)
    assert (status.moving, status.code) == (
        False,
        Code.COMMAND_CONFLICT,
    ) and "more commands come than one per period" in status.message
    assert way(run) <= 8 * size and run.controller.at_rest


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from([1, 2, 3, 5, 8, 13, 17, 19, 20, 25]), st.floats(0.0, 0.2)), min_size=5, max_size=60))
def test_at_any_rate_the_target_goes_no_farther_than_a_step_a_period(drawn):
    run, ticks = new_run(), 0
    for step, (after, size) in enumerate(drawn):
        run.controller.command(steady(step, translation=(0.0, size, 0.0)), run.now)
        run.ticks(after)
        ticks += after
        most = 1 + math.floor((0.01 * ticks + CONFIG.command_timeout) / (PACE * P))
        assert way(run) <= LIMIT * most + 1e-6


@pytest.mark.parametrize("late", [0.1, 0.25, 0.4])
def test_commands_that_are_late_on_their_way_are_executed(late):
    """Every fifth, and those that were sent meanwhile come with it, or after it."""
    run = new_run()
    arrivals = [round(100 * (P * i + (late if i % 5 == 4 else 0.0))) for i in range(100)]
    arrivals = np.maximum.accumulate(arrivals)
    for tick in range(arrivals[-1] + 1):
        for step in np.flatnonzero(arrivals == tick):
            run.controller.command(steady(int(step), translation=(0.0, 0.001 * (-1) ** int(step), 0.0)), run.now)
        run.ticks(1)
    status = run.controller.status(run.now)
    assert (status.code, status.refused) == (Code.OK, 0)


@settings(max_examples=40)
@given(st.lists(st.floats(0.02, 0.45), min_size=20, max_size=100), st.floats(0.005, 0.05), st.sampled_from([0.05, 0.1, 0.2, 0.33]))
def test_none_of_vla_nodes_own_is_too_early(latencies, camera, period):
    """By its own Pacer, whatever the model takes for each action and the camera from image to image."""
    controller, pacer, now, step = ArmController(replace(CONFIG, command_timeout=0.5), 0.0), Pacer(), 0.0, 0
    for latency in latencies:
        while True:
            now += camera
            image = Sample(None, now, now)
            if pacer.wait(image, now, period) == 0.0:
                break
        pacer.use(image, now, period)
        now += min(latency, 2.0 * period)
        controller.measure(HOME, now)
        controller.command(replace(steady(step, translation=(0.0, 0.0, 0.0)), period=period), now)
        step += 1
        controller.measure(HOME, now)
    assert controller.status(now).refused == 0
