# SPDX-License-Identifier: Apache-2.0
"""Pose, Jacobian and twist are in the axes of the base frame, wherever the URDF's root is; a base that cannot be one is told."""

import numpy as np
import pytest
from arms import PANDA, WX250S
from pinocchio import SE3
from pinocchio.rpy import rpyToMatrix

from vla_sd_ros.kinematics.arm import ArmKinematics

TABLE = SE3(rpyToMatrix(0.0, 0.0, np.pi / 2), np.array([0.2, 0.0, 0.75]))  # of the arm's base in the world


def on_a_table(chain) -> str:
    """The arm's URDF under a root `world`, on a table, turned by 90 degrees; the table stands on a lift that nobody names."""
    mount = (
        '<link name="world"/><link name="lift"/><joint name="up" type="prismatic"><parent link="world"/>'
        '<child link="lift"/><axis xyz="0 0 1"/><limit lower="0" upper="1" velocity="1" effort="1"/></joint>'
        f'<joint name="mount" type="fixed"><parent link="lift"/><child link="{chain.base}"/>'
        f'<origin xyz="0.2 0 0.75" rpy="0 0 {np.pi / 2!r}"/></joint>'
    )
    return chain.urdf().replace("</robot>", f"{mount}</robot>")


@pytest.fixture(params=[PANDA, WX250S], ids=lambda chain: chain.name)
def chain(request):
    return request.param


def arms(chain):
    """The arm by itself, on the table in base axes, and on the table in the world's."""
    alone, urdf = chain.kinematics(), on_a_table(chain)
    return alone, ArmKinematics(urdf, chain.tip[0], chain.joint_names, chain.base), urdf


def test_poses_and_motions_on_a_table_are_those_of_the_arm_by_itself(chain):
    alone, mounted, _ = arms(chain)
    rng = np.random.default_rng(0)
    for _ in range(20):
        q, dq = np.array(chain.home) + rng.uniform(-0.3, 0.3, len(chain.home)), rng.normal(size=len(chain.home))
        for mine, its in zip(mounted.forward_and_jacobian(q), alone.forward_and_jacobian(q)):
            np.testing.assert_allclose(mine, its, atol=1e-9)
        np.testing.assert_allclose(mounted.twist(q, dq), alone.twist(q, dq), atol=1e-9)
        np.testing.assert_allclose(mounted.jacobian(q), alone.jacobian(q), atol=1e-9)
        np.testing.assert_allclose(
            mounted.inverse(*alone.forward(q), np.array(chain.home)),
            alone.inverse(*alone.forward(q), np.array(chain.home)),
            atol=1e-6,
        )


def test_without_a_base_they_are_in_the_axes_of_the_root(chain):
    lifted = ArmKinematics(on_a_table(chain).replace('type="prismatic"', 'type="fixed"'), chain.tip[0], chain.joint_names)
    alone = SE3(*reversed(chain.kinematics().forward(np.array(chain.home))))
    position, rotation = lifted.forward(np.array(chain.home))
    np.testing.assert_allclose(position, (TABLE * alone).translation, atol=1e-9)
    np.testing.assert_allclose(rotation, (TABLE * alone).rotation, atol=1e-9)


@pytest.mark.parametrize(
    "base, names, words",
    [
        ("world", slice(None), "joint 'up' lies between the base frame 'world' and the tip 'panda_tcp', but is not one of "),
        ("panda_link0", slice(1, None), "joint 'panda_joint1' lies between the base frame 'panda_link0' and the tip"),
        ("panda_link2", slice(None), "joint 'panda_joint1' moves the base frame 'panda_link2' itself"),
        ("fr3_link0", slice(None), "no link 'fr3_link0'; its links are: world, lift, panda_link0"),
    ],
)
def test_a_base_that_cannot_be_one_is_told_in_one_sentence(base, names, words):
    with pytest.raises(ValueError) as error:
        ArmKinematics(on_a_table(PANDA), "panda_tcp", PANDA.joint_names[names], base)
    assert words in str(error.value) and "\n" not in str(error.value)
