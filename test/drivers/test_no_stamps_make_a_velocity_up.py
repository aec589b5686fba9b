# SPDX-License-Identifier: Apache-2.0
"""The velocity that goes with a target is that of the stream, within what any arm may go, whatever the stamps are; it ends with
the stream."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_an_fr3_obeys_and_stops import STEP, arm, joints, until
from test_targets_begin_where_the_arm_is import HERE, at
from vendors import Fr3

from vla_sd_ros.drivers.gate import FASTEST, LONGEST_STEP, PAUSE, SHORTEST_STEP, STANDING, Gate, Reach

FAR, TURNED = 0.14, 0.8  # m, rad: within the reach of a target


def vectors(longest):
    """(3,) of at most this length."""
    return st.tuples(*[st.floats(-1.0, 1.0)] * 3).map(lambda v: longest * np.array(v) / max(1.0, float(np.linalg.norm(v))))


STAMPS = st.one_of(st.floats(-1.0, 1.0), st.floats(-1e-3, 1e-3), st.sampled_from([0.0, 1e-9, 1e-6, 1e-4, SHORTEST_STEP, 0.01]))


@given(st.lists(st.tuples(STAMPS, vectors(FAR), vectors(TURNED)), max_size=30))
def test_it_is_bounded_whatever_comes(stream):
    gate, stamp, now = Gate(Reach()), 1e9, 1.0
    gate.admit(HERE, HERE, stamp, now)
    for passed, way, turn in stream:
        stamp, now = stamp + passed, now + STEP
        twist = gate.admit(at(*way, *turn), HERE, stamp, now)
        assert np.linalg.norm(twist[:3]) <= FASTEST[0] and np.linalg.norm(twist[3:]) <= FASTEST[1]


@given(vectors(FASTEST[0]), vectors(FASTEST[1]), st.lists(st.floats(1e-4, 0.02), min_size=1, max_size=20))
def test_a_smooth_stream_keeps_its_own(speed, turning, periods):
    """At any rate of arm_node, and where its ticks come late and then soon after one another."""
    gate, begun, measured, stamp = Gate(Reach()), 10.0, HERE, 10.0
    twist = 0.999 * np.array([*speed, *turning])
    gate.admit(HERE, HERE, stamp, 1.0)
    for period in periods:
        stamp += period
        measured = HERE.moved((stamp - begun) * twist)
        found = gate.admit(measured, measured, stamp, 1.0 + stamp - begun)
        told = stamp - begun >= SHORTEST_STEP + 1e-9
        if told or stamp - begun < SHORTEST_STEP - 1e-9:
            np.testing.assert_allclose(found, twist if told else np.zeros(6), atol=1e-6)


@pytest.mark.parametrize("stamp", [10.0, 9.0, 10.0 + 1e-6, 10.0 + 1e-4, 10.1 + LONGEST_STEP])
def test_a_stamp_that_leaps_or_hardly_goes_on_tells_none(gate, stamp):
    gate.admit(at(0.0), HERE, 10.0, 1.0)
    assert not gate.admit(at(0.002), HERE, stamp, 1.01).any()


def test_a_target_that_leaps_has_none(gate):
    gate.admit(at(0.0), HERE, 10.0, 1.0)
    assert not gate.admit(at(0.1), HERE, 10.01, 1.01).any()
    assert not gate.admit(at(0.1, 0.0, 0.0, 0.5), HERE, 10.02, 1.02).any()


def test_it_ends_with_the_stream(gate):
    newest = at(0.001)
    gate.admit(at(0.0), HERE, 10.0, 1.0)
    gate.admit(newest, HERE, 10.01, 1.01)
    assert gate.standing(1.01 + 0.9 * STANDING) is None
    assert gate.standing(1.01 + 1.1 * STANDING) is newest


def test_targets_that_are_refused_do_not_prolong_it(gate):
    newest = at(0.0)
    gate.admit(newest, HERE, 10.0, 1.0)
    for step in range(20):
        assert gate.admit(at(0.3), HERE, 10.01 + step * STEP, 1.01 + step * STEP) is None
    assert gate.standing(1.0 + 1.1 * STANDING) is newest
    assert gate.pausing(1.0 + 1.1 * PAUSE)


@pytest.mark.parametrize("after", [1e-6, 1e-4])
def test_an_arm_is_not_thrown_by_a_stamp(after):
    """Targets where it is, then one 2 mm away whose stamp is hardly later, then silence."""
    with Fr3() as robot:
        driver, gate = arm(robot), Gate(Reach())
        start, far, fast = driver.pose(joints(driver)), 0.0, 0.0
        for step in range(81):
            moved, now = step == 30, time.monotonic()
            if step <= 30:
                target = start.moved(np.array([0.0, 0.002 * moved, 0.0, 0.0, 0.0, 0.0]))
                driver.follow(target, gate.admit(target, start, 10.0 + (29 * STEP + after if moved else step * STEP), now))
            elif gate.pausing(now):
                driver.rest()
            reading = until(driver.read, lambda: driver.fault)
            far = max(far, float(np.linalg.norm(driver.pose(reading.joints).position - start.position)))
            fast = max(fast, float(np.abs(reading.velocities).max()))
            time.sleep(STEP)
        driver.stop()
    assert far < 0.01 and fast < 0.5, f"{far:.3f} m from the start, {fast:.2f} rad/s"
