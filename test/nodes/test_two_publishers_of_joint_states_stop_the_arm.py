# SPDX-License-Identifier: Apache-2.0
"""A second publisher of the arm's joints near the true ones ends the goal; one of the fingers alone, on the same topic, does not."""

import numpy as np

from vla_sd_ros.control.codes import Code


def test_it_holds_and_says_why(arm):
    arm.drive(2)
    assert arm.status.moving
    turned = arm.q + 0.05 * np.eye(7)[6]  # the hand alone: no watch on the arm's way minds it
    for step in range(10):
        arm.measure(position=(turned if step % 2 else arm.q).tolist())
    assert (arm.status.moving, arm.status.code) == (False, Code.JOINT_STATES_INVALID)
    assert "in two places by turns: look for a second publisher" in arm.status.message


def test_a_grippers_own_publisher_is_ordinary(arm):
    arm.command(translation=(0.02, 0.0, 0.0))
    for step in range(20):
        arm.measure()
        arm.measure(name=["finger"], position=[0.04 * (step % 2)])
    assert arm.status.moving
