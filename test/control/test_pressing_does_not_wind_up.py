# SPDX-License-Identifier: Apache-2.0
"""Against what it presses on, an arm stays behind its targets. They go no farther ahead than follow.lead_distance, so the
force stays bounded and the first command back takes effect; the ordinary lag of a moving arm is not cut.
"""

from dataclasses import replace

import numpy as np
import pytest
from test_motion_stays_within_limits import CONFIG, TICK, Rig, steady

from vla_sd_ros.control.codes import Code
from vla_sd_ros.control.following import FollowLimits
from vla_sd_ros.kinematics.pose import Pose

WIDE = replace(CONFIG, workspace_low=np.full(3, -1.0), workspace_high=np.full(3, 1.0), blend_in=0.0)
PATIENT = FollowLimits(still_distance=1.0, still_angle=3.0)  # it shall press as long as the policy wants


def press(rig, commands, floor):
    """The arm follows, but not below the floor."""
    for command in commands:
        rig.controller.command(command, rig.now)
        for _ in range(20):
            rig.now += TICK
            pose = rig.controller.tick(rig.now)
            rig.sent.append(pose)
            rig.controller.measure(Pose(np.maximum(pose.position, floor), pose.rotation), rig.now)


@pytest.mark.parametrize("lead", [0.02, 0.06])
def test_the_target_goes_no_farther_ahead_than_the_lead_and_comes_back_at_once(lead):
    rig, floor = Rig(replace(WIDE, follow=replace(PATIENT, lead_distance=lead))), np.array([-1.0, -1.0, -0.03])
    press(rig, [steady(i, translation=(0.0, 0.0, -0.03)) for i in range(15)], floor)
    lowest = min(pose.position[2] for pose in rig.sent)
    assert -0.03 - lead - 1e-6 <= lowest <= -0.03 - 0.9 * lead
    assert rig.controller.status(rig.now).code == Code.OK and rig.controller.status(rig.now).clipped > 5
    press(rig, [steady(i, translation=(0.0, 0.0, 0.03)) for i in range(15, 17)], floor)
    assert rig.sent[-1].position[2] > lowest + 0.02


def test_rotations_do_not_wind_up_either():
    rig = Rig(replace(WIDE, follow=replace(PATIENT, lead_angle=0.3)))
    turn = replace(steady(0), translation=np.zeros(3), rotation=np.array([0.0, 0.2, 0.0]))
    for step in range(10):
        rig.controller.command(replace(turn, step=step), rig.now)
        for _ in range(20):
            rig.now += TICK
            rig.sent.append(rig.controller.tick(rig.now))
            rig.controller.measure(rig.measured, rig.now)
    turned = np.linalg.norm(rig.measured.displacement_to(rig.sent[-1])[3:])
    assert 0.28 < turned <= 0.3 + 1e-6


def test_the_lag_of_an_arm_at_full_speed_is_not_cut():
    late, free = Rig(WIDE), Rig(replace(WIDE, follow=FollowLimits(lead_distance=1.0, lead_angle=3.0)))
    for rig in (late, free):
        for step in range(12):
            rig.controller.command(steady(step, translation=(0.05, 0.0, 0.0)), rig.now)
            for _ in range(20):
                rig.now += TICK
                rig.sent.append(rig.controller.tick(rig.now))
                rig.controller.measure(rig.sent[max(0, len(rig.sent) - 11)], rig.now)  # late by 0.1 s
    np.testing.assert_allclose([pose.position for pose in late.sent], [pose.position for pose in free.sent], atol=1e-9)
    assert late.controller.status(late.now).clipped == 0
