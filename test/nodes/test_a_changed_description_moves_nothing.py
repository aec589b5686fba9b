# SPDX-License-Identifier: Apache-2.0
"""robot_description that comes again in motion with another tip or base, or as what cannot be read, moves nothing: the arm
holds with DESCRIPTION_CHANGED, and takes the new one when it is activated again."""

import numpy as np
import pytest
from panda import urdf

from vla_sd_ros.control.codes import Code

CHANGES = {
    "another tip": ('xyz="0 0 0.2104"', 'xyz="0.1 0 0.3104"'),
    "another base": (
        '<link name="panda_link0"/>',
        '<link name="world"/><link name="panda_link0"/><joint name="mount" type="fixed">'
        '<parent link="world"/><child link="panda_link0"/><origin xyz="0.3 0 0.3" rpy="0 0 1"/></joint>',
    ),
    "no such tip": ('"panda_tcp"', '"other_tcp"'),
    "no XML": ("<robot", "robot"),
    "5000 links": (
        "</robot>",
        "".join(
            f'<link name="l{i}"/><joint name="j{i}" type="fixed"><parent link="'
            f'{f"l{i - 1}" if i else "panda_tcp"}"/><child link="l{i}"/></joint>'
            for i in range(5000)
        )
        + "</robot>",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_in_motion_the_arm_comes_to_rest_on_its_way(arm, change):
    arm.drive(3)
    start = arm.path[0]
    arm.describe(urdf().replace(*CHANGES[change]))
    arm.drive(3)
    status = arm.status
    assert (status.moving, status.code) == (False, Code.DESCRIPTION_CHANGED)
    assert "deactivate and activate arm_node" in status.message
    assert 0.02 < (arm.path[-1] - start)[0] < 0.07, "no farther than it was sent before"
    np.testing.assert_allclose((arm.path - start)[:, 1:], 0.0, atol=1e-4)
    assert np.linalg.norm(np.diff(arm.path, axis=0), axis=1).max() < 0.6 * 0.03


def test_the_same_one_again_is_none_and_the_old_one_makes_it_good(arm):
    arm.drive(1)
    arm.describe(urdf())
    arm.drive(1)
    assert arm.status.moving
    arm.describe(urdf() + " ")
    arm.describe(urdf())
    arm.drive(1)
    assert not arm.status.moving, "the goal is over"
    arm.drive(1, goal=2)
    assert arm.status.moving


def test_the_new_one_is_taken_at_the_next_activation(arm):
    arm.describe(urdf().replace(*CHANGES["another base"]).replace('xyz="0 0 0.2104"', 'xyz="0 0 0.3104"'))
    arm.lifecycle("deactivate", "activate")
    arm.measure()
    moved = arm.node.controller.measured.position - arm.tip
    np.testing.assert_allclose(np.linalg.norm(moved), 0.1, atol=1e-6)  # in base_frame still, with the longer tip
