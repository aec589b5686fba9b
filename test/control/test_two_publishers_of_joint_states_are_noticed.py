# SPDX-License-Identifier: Apache-2.0
"""Joint states that come from two publishers by turns are a fault, though no single one of them is a jump; one arm that moves as
an arm can, at any rate and with delays on the way, is none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_sd_ros.control.codes import Code
from vla_sd_ros.control.joint_states import PERIOD, TURNS, JointStateWatch

JOINTS, FASTEST = 7, 2.6  # rad/s


def a_watch():
    return JointStateWatch([f"j{i}" for i in range(JOINTS)], np.full(JOINTS, -2.9), np.full(JOINTS, 2.9), np.full(JOINTS, FASTEST))


def posture(time, speed=0.0):
    """Of joints that swing by 0.5 rad as fast as that at most [rad/s]."""
    return 0.5 * np.sin(2.0 * speed * time + np.arange(JOINTS))


def found(messages):
    """The faults of (time, positions)."""
    watch = a_watch()
    return [watch.check(q, 1e9 + time, time) for time, q in messages]


@pytest.mark.parametrize("apart", [np.full(JOINTS, 0.05), np.full(JOINTS, 0.09), 0.04 * np.eye(JOINTS)[2]])
@pytest.mark.parametrize("speed", [0.0, 1.0])
@pytest.mark.parametrize("rate, others", [(100.0, 100.0), (100.0, 10.0), (100.0, 37.0), (30.0, 30.0), (1000.0, 100.0)])
def test_two_near_each_other_are_noticed(apart, speed, rate, others):
    own = [(time, posture(time, speed)) for time in np.arange(0.0, 2.0, 1.0 / rate)]
    foreign = [(time, posture(time, speed) + apart) for time in np.arange(0.5, 2.0, 1.0 / others) + 0.4 / rate]
    messages = sorted(own + foreign, key=lambda message: message[0])
    told = {time: fault for (time, _), fault in zip(messages, found(messages))}
    assert not any(fault for time, fault in told.items() if time < 0.5)
    after = [fault for time, fault in told.items() if time > 0.5 + TURNS / others + 0.02]
    assert all(fault and fault.code == Code.JOINT_STATES_INVALID and "second publisher" in fault.message for fault in after)


def test_it_is_over_when_one_of_them_has_gone():
    watch, now = a_watch(), 0.0
    for step in range(40):
        now += 0.01
        watch.check(posture(0.0) + 0.05 * (step % 2), 1e9 + now, now)
    assert watch.check(posture(0.0), 1e9 + now + 0.01, now + 0.01)
    assert watch.check(posture(0.0), 1e9 + now + PERIOD, now + PERIOD) is None


def test_a_single_message_of_another_is_forgiven():
    assert not any(found([(0.01 * step, posture(0.0) + 0.05 * (step == 50)) for step in range(100)]))


@settings(max_examples=30)
@given(st.floats(0.0, FASTEST), st.sampled_from([0.001, 0.01, 0.033]), st.integers(0, 2**32 - 1))
def test_one_arm_that_swings_is_not_accused(speed, period, seed):
    """With noise of a milliradian, messages that are lost, and messages that come at once after a delay."""
    watch, arrived, rng = a_watch(), 0.0, np.random.default_rng(seed)
    for step in range(400):
        if rng.random() < 0.3:
            continue
        measured = step * period
        arrived = max(arrived, measured + (0.08 if rng.random() < 0.02 else 0.002))
        q = posture(measured, speed) + rng.uniform(-1e-3, 1e-3, JOINTS)
        assert watch.check(q, 1e9 + measured, arrived) is None
