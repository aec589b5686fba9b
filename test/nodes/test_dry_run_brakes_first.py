# SPDX-License-Identifier: Apache-2.0
"""dry_run that is set in motion lets the arm come to rest within its limits before nothing is sent any more, and back. Either
way the goal is over: one that was begun dry does not set out on the arm by itself."""

import numpy as np
from rclpy.parameter import Parameter


def dry(arm, on):
    assert arm.node.set_parameters([Parameter("dry_run", value=on)])[0].successful


def test_the_target_comes_to_rest_before_it_is_silent_and_nothing_leaps_when_it_goes_on(arm):
    arm.drive(2, translation=(0.05, 0.0, 0.0))
    moving = np.linalg.norm(np.diff(arm.path, axis=0), axis=1)[-1]
    assert moving > 1e-3
    at = len(arm.sent)
    dry(arm, True)
    arm.drive(3, translation=(0.05, 0.0, 0.0))
    assert len(arm.sent) > at + 5
    assert arm.speeds[-1] < 0.01
    silent = len(arm.sent)
    assert not arm.status.moving and "dry_run was changed in this goal" in arm.status.message
    arm.drive(2, goal=2, translation=(0.05, 0.0, 0.0))
    assert arm.status.moving and len(arm.sent) == silent, "the next goal goes on, but is not sent"
    dry(arm, False)
    arm.drive(2, goal=2, translation=(0.05, 0.0, 0.0))
    assert not arm.status.moving and len(arm.sent) == silent, "nor does it set out on the arm by itself"
    arm.drive(2, goal=3, translation=(0.05, 0.0, 0.0))
    assert np.linalg.norm(np.diff(arm.path[silent - 1 :], axis=0), axis=1).max() < 0.6 * 0.03
    assert arm.path[-1][0] > arm.path[silent - 1][0] + 0.01
