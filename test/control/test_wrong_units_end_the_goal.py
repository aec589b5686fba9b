# SPDX-License-Identifier: Apache-2.0
"""A goal whose commands are far beyond one step's limits, as those in wrong units are, ends with a code of its own."""

from dataclasses import replace

import numpy as np
import pytest
from test_faults_end_the_goal import WIDE, assert_over
from test_motion_stays_within_limits import Rig, steady

from vla_sd_ros.control.codes import Code
from vla_sd_ros.control.units import FEWEST


def command(translation=(0.0, 0.0, 0.0), rotation=(0.0, 0.0, 0.0), goal=1):
    return replace(steady(0, goal=goal), translation=np.array(translation, float), rotation=np.array(rotation, float))


@pytest.mark.parametrize(
    "wrong, after",
    [
        ({"translation": (0.3, -0.2, 0.2)}, FEWEST // 2),  # LIBERO's units
        ({"translation": (0.3, -0.6, 0.2)}, 0),
        ({"translation": (20.0, 0.0, -30.0)}, 0),  # millimetres
        ({"translation": (0.0, 1e300, 0.0)}, 0),
        ({"rotation": (0.0, 15.0, 0.0)}, 0),
    ],
)  # degrees
def test_commands_in_other_units_end_the_goal_before_the_arm_has_gone_far(wrong, after):
    rig = Rig(WIDE)
    signs = np.resize([1.0, -1.0], 40)
    for i, sign in enumerate(signs):  # noqa: B007  (it is read below)
        rig.run([(command(**{name: sign * np.array(value) for name, value in wrong.items()}), 20)])
        if rig.controller.status(rig.now).code == Code.COMMANDS_CLIPPED:
            break
    assert i == after
    assert not rig.sent or np.linalg.norm(rig.sent[-1].position - rig.sent[0].position) < 0.2
    message = rig.controller.status(rig.now).message
    assert "action statistics are those of this arm" in message and "action_scale" in message
    assert_over(rig, Code.COMMANDS_CLIPPED)


def test_steps_a_little_beyond_the_limit_and_single_long_ones_are_clipped_and_no_more():
    rig = Rig(WIDE)
    for i in range(80):
        rig.run([(command((0.09 if i % 2 else -0.09, 0.0, 0.0)), 20)])
        rig.run([(command((0.0, 0.5 if i % 4 == 0 else 0.01, 0.0)), 20), (command(), 20)])
        assert rig.controller.status(rig.now).code == Code.OK
    assert rig.controller.status(rig.now).clipped >= 80


def test_limits_that_are_lowered_for_a_first_look_clip_most_commands_which_is_told_and_ends_nothing():
    rig = Rig(replace(WIDE, max_translation=0.01))
    for sign in np.resize([1.0, -1.0], 40):
        rig.run([(command((0.04 * sign, 0.0, 0.0)), 20)])
    assert rig.controller.status(rig.now).code == Code.OK and rig.controller.mostly_clipped
    rig.run([(command((0.005, 0.0, 0.0)), 20), (command((-0.005, 0.0, 0.0)), 20)] * 6)
    assert not rig.controller.mostly_clipped


def test_action_scale_counts_and_each_goal_begins_anew():
    rig = Rig(replace(WIDE, action_scale=0.1))
    for _ in range(40):
        rig.run([(command((0.3, 0.0, 0.0)), 20), (command((-0.3, 0.0, 0.0)), 20)])
    assert rig.controller.status(rig.now).code == Code.OK
    rig = Rig(WIDE)
    for goal in range(2, 12):
        rig.run(
            [(command((sign, 0.0, 0.0), goal=goal), 20) for sign in np.resize([0.4, -0.4], FEWEST // 2)]
            + [(command(goal=goal), 20)] * 6
        )
        assert rig.controller.status(rig.now).code == Code.OK
