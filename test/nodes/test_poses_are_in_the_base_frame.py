# SPDX-License-Identifier: Apache-2.0
"""With an arm on a table of a world that is the URDF's root: poses, commands, the box and the target are in base axes."""

import numpy as np
from panda import urdf

WORLD = urdf().replace(
    "</robot>",
    '<link name="world"/><joint name="mount" type="fixed"><parent link="world"/>'
    '<child link="panda_link0"/><origin xyz="0.2 0 0.75" rpy="0 0 1.5707963"/></joint></robot>',
)


def test_commands_move_the_arm_along_its_base_and_the_box_is_the_bases(make_arm):
    arm = make_arm(**{"workspace.max": [0.5, 0.5, 0.9]}).start(WORLD)
    here = arm.tip
    assert 0.3 < here[0] < 0.5
    np.testing.assert_allclose(arm.node.controller.measured.position, here, atol=1e-9)
    arm.drive(2)
    arm.run(0.3)
    assert arm.sent[0].header.frame_id == "panda_link0"
    np.testing.assert_allclose(arm.path[0], here, atol=2e-3)
    np.testing.assert_allclose(arm.path[-1], here + [min(0.04, 0.5 - here[0]), 0.0, 0.0], atol=1e-4)
    arm.drive(10, goal=2)
    arm.run(0.3)
    np.testing.assert_allclose(arm.path[-1], [0.5, here[1], here[2]], atol=1e-4)
    assert arm.path[:, 0].max() <= 0.5 + 1e-6


def test_a_base_that_a_joint_of_the_arm_moves_is_told(make_arm):
    arm = make_arm(base_frame="panda_link2").start(WORLD)
    arm.run(0.3)
    assert "moves the base frame 'panda_link2' itself" in arm.status.message and not arm.status.moving
