# SPDX-License-Identifier: Apache-2.0
"""A driver follows targets that begin at the arm and stay near it, and no others."""

import numpy as np
import pytest

from vla_sd_ros.drivers.gate import ANEW, PAUSE
from vla_sd_ros.kinematics.pose import Pose

HERE = Pose(np.array([0.4, 0.0, 0.3]), np.eye(3))


def at(*displacement) -> Pose:
    return HERE.moved(np.array([*displacement, *[0.0] * (6 - len(displacement))]))


def test_the_twist_is_that_of_the_targets_and_zero_for_the_first(gate):
    assert not gate.admit(at(0.001), HERE, 10.0, 1.0).any()
    np.testing.assert_allclose(gate.admit(at(0.002, 0.0, 0.0, 0.001), HERE, 10.01, 1.01), [0.1, 0, 0, 0.1, 0, 0], atol=1e-9)


@pytest.mark.parametrize("target", [at(0.05), at(0.0, 0.0, 0.0, 0.2)])
def test_targets_that_begin_elsewhere_are_refused_until_they_pause(gate, target):
    assert gate.admit(target, HERE, 10.0, 1.0) is None
    assert "begin" in gate.refusal
    assert gate.admit(at(0.0), HERE, 10.01, 1.01) is None, "what was refused must not creep up to the arm"
    gate.pausing(1.01 + ANEW + 0.01)
    assert not gate.refusal
    assert gate.admit(at(0.0), HERE, 20.0, 2.0) is not None


def test_a_target_that_leaps_away_is_refused_and_what_follows_it(gate):
    gate.admit(at(0.0), HERE, 10.0, 1.0)
    assert gate.admit(at(0.3), HERE, 10.01, 1.01) is None and "0.300 m" in gate.refusal
    assert gate.admit(at(0.001), HERE, 10.02, 1.02) is None


def test_after_a_recovery_the_target_of_before_is_not_gone_to(gate):
    gate.admit(at(0.0), HERE, 10.0, 1.0)
    gate.admit(at(0.1), at(0.1), 10.02, 1.02)
    gate.shut()
    assert gate.admit(at(0.1), HERE, 10.03, 1.03) is None


def test_a_pause_is_noticed(gate):
    assert gate.pausing(0.0)
    gate.admit(at(0.0), HERE, 10.0, 1.0)
    assert not gate.pausing(1.0 + 0.5 * PAUSE) and gate.pausing(1.0 + 1.5 * PAUSE)
