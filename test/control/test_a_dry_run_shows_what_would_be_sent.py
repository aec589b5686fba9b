# SPDX-License-Identifier: Apache-2.0
"""In a dry run the arm stands still, which is no fault, and the targets go on as if it followed."""

from dataclasses import replace

import numpy as np
from plants import HOME
from test_a_wrong_frame_does_not_run_away import CONFIG
from test_motion_stays_within_limits import TICK, steady

from vla_sd_ros.control.codes import Code
from vla_sd_ros.control.controller import ArmController


def test_the_targets_go_their_way_though_the_arm_stands():
    controller, now = ArmController(replace(CONFIG, dry_run=True), 100.0), 100.0
    controller.measure(HOME, now)
    for index in range(20):
        controller.command(steady(index, translation=(0.015, 0.0, 0.0)), now)
        for _ in range(20):
            now += TICK
            pose = controller.tick(now)
            controller.measure(HOME, now)
        assert controller.status(now).code == Code.OK
    np.testing.assert_allclose(pose.position - HOME.position, [0.3, 0.0, 0.0], atol=0.005)
    assert controller.status(now).clipped == 0
