# SPDX-License-Identifier: Apache-2.0
"""The inverse finds joints within their limits for poses that the arm reaches, near those it starts from.

Many more poses, and times: benchmarks/inverse_kinematics.py.
"""

import numpy as np
import pytest
from arms import PANDA, WX250S
from hypothesis import given, settings
from hypothesis import strategies as st
from pinocchio import log3

from vla_sd_ros.kinematics.arm import ArmKinematics

ARMS = {chain.name: (chain.kinematics(), np.array(chain.home)) for chain in (PANDA, WX250S)}
MARGIN = 0.05  # rad, from the limits of the joints


def residual(arm: ArmKinematics, q: np.ndarray, position: np.ndarray, rotation: np.ndarray) -> tuple[float, float]:
    """Distance [m] and angle [rad]."""
    reached, turned = arm.forward(q)
    return float(np.linalg.norm(reached - position)), float(np.linalg.norm(log3(turned @ rotation.T)))


def postures(arm: ArmKinematics, count: int) -> np.ndarray:
    lower, upper = arm.position_limits
    return np.random.default_rng(7).uniform(lower + MARGIN, upper - MARGIN, (count, len(lower)))


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize("attempts, from_home", [(1, False), (150, True)])
def test_the_residual_is_below_a_tenth_of_a_millimetre_and_a_hundredth_of_a_degree(name, attempts, from_home):
    arm, home = ARMS[name]
    rng, solved = np.random.default_rng(8), 0
    for q in postures(arm, 100):
        position, rotation = arm.forward(q)
        near = home if from_home else q + rng.uniform(-0.2, 0.2, len(q))
        solution = arm.inverse(position, rotation, near, attempts)
        if solution is None:
            continue
        distance, angle = residual(arm, solution, position, rotation)
        assert distance < 1e-4 and angle < np.radians(0.01)
        assert np.all(solution >= arm.position_limits[0]) and np.all(solution <= arm.position_limits[1])
        solved += 1
    assert solved == 100


@pytest.mark.parametrize("name", ARMS)
def test_a_small_motion_moves_the_joints_a_little(name):
    """No leap into another branch: the solution continues the posture that it starts from."""
    arm, home = ARMS[name]
    q = home
    for _ in range(100):
        position, rotation = arm.forward(q)
        solution = arm.inverse(position + [0.0, 0.001, 0.0005], rotation, q)
        assert np.abs(solution - q).max() < 0.03
        q = solution


@pytest.mark.parametrize("name", ARMS)
def test_what_is_out_of_reach_has_no_solution(name):
    arm, home = ARMS[name]
    position, rotation = arm.forward(home)
    assert arm.inverse(position + [2.0, 0.0, 0.0], rotation, home, attempts=3) is None


@pytest.mark.parametrize("name", ARMS)
@settings(max_examples=30)
@given(seed=st.integers(0, 10**6))
def test_the_jacobian_maps_joint_velocities_to_the_twist(name, seed):
    arm, home = ARMS[name]
    rng = np.random.default_rng(seed)
    q, dq = home + rng.uniform(-0.5, 0.5, len(home)), rng.uniform(-1.0, 1.0, len(home))
    np.testing.assert_allclose(arm.jacobian(q) @ dq, arm.twist(q, dq), atol=1e-12)


def test_a_stretched_arm_is_singular():
    arm, home = ARMS["wx250s"]
    stretched = home.copy()
    stretched[4] = 0.0  # the axes of forearm_roll and wrist_rotate are one
    assert arm.manipulability(stretched) < 1e-9 < arm.manipulability(home)


def test_limits_are_those_of_the_urdf_in_the_callers_order():
    names = PANDA.joint_names[::-1]
    arm = ArmKinematics(PANDA.urdf(), PANDA.tip[0], names)
    limits = [(joint.lower, joint.upper, joint.velocity) for joint in PANDA.joints[::-1]]
    np.testing.assert_array_equal(np.transpose([*arm.position_limits, arm.velocity_limits]), limits)
