# SPDX-License-Identifier: Apache-2.0
"""A gripper is wanted open or closed, and a value that flutters in the middle changes nothing."""

from hypothesis import given
from hypothesis import strategies as st

from vla_sd_ros.control.gripper import GripperSwitch


@given(st.lists(st.floats(-0.5, 1.5), min_size=1, max_size=50))
def test_what_is_wanted_changes_only_beyond_a_threshold(wanted):
    switch = GripperSwitch()
    said = [switch.update(value, 0.6, 0.4) for value in wanted]
    assert said[0] == (1.0 if wanted[0] >= 0.5 else 0.0)
    for value, before, after in zip(wanted[1:], said, said[1:]):
        assert after == (1.0 if value >= 0.6 else 0.0 if value <= 0.4 else before)


@given(st.lists(st.floats(0.41, 0.59), min_size=1, max_size=50))
def test_a_value_between_the_thresholds_changes_nothing(wanted):
    switch = GripperSwitch()
    assert switch.update(1.0, 0.6, 0.4) == 1.0
    assert all(switch.update(value, 0.6, 0.4) == 1.0 for value in wanted)


def test_the_thresholds_themselves_switch():
    switch = GripperSwitch()
    assert [switch.update(value, 0.6, 0.4) for value in (1.0, 0.4, 0.6)] == [1.0, 0.0, 1.0]
