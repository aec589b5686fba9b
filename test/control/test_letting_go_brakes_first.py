# SPDX-License-Identifier: Apache-2.0
"""A target that is given up in motion comes to rest before, within the limits; commands until then are refused."""

from dataclasses import replace

import numpy as np
from test_motion_stays_within_limits import CONFIG, Rig, assert_within, steady

CALM = replace(CONFIG, blend_in=0.0, workspace_high=np.full(3, 1.0))


def test_in_motion_it_brakes_while_commands_go_on():
    rig = Rig(CALM)
    rig.run([(steady(i, translation=(0.05, 0.0, 0.0)), 20) for i in range(3)] + [(steady(3), 10)])
    moving, sent = rig.displacements()[-1], len(rig.sent)
    assert np.linalg.norm(moving) > 1e-3
    rig.controller.let_go("dry_run was changed")
    assert rig.controller.letting_go
    while rig.controller.letting_go:
        rig.run([(replace(steady(4), period=0.02), 2)])
    assert 5 < len(rig.sent) - sent <= 1 + 100 * CALM.limits.stopping_time() + 2
    assert_within(CALM.limits, rig.displacements())
    assert np.linalg.norm(rig.displacements()[-1]) < 1e-4
    assert rig.controller.status(rig.now).refused >= 3
    rig.run([(steady(5), 1)])
    assert rig.controller.status(rig.now).moving, "the goal goes on from where the arm is"


def test_at_rest_it_is_given_up_at_once():
    rig = Rig(CALM)
    for _ in range(2):
        rig.controller.let_go("dry_run was changed")
        rig.tick()
        assert not rig.controller.letting_go and rig.controller.tick(rig.now) is None
        rig.run([(steady(0), 100)])
