# SPDX-License-Identifier: Apache-2.0
"""The gripper gets a command only when its state changes, and a value that flutters in the middle changes nothing."""

from hypothesis import given
from hypothesis import strategies as st

from vla_sd_ros.control.gripper import GripperSwitch


@given(st.lists(st.floats(-0.5, 1.5), max_size=50))
def test_what_is_sent_alternates(wanted):
    switch = GripperSwitch()
    sent = [x for x in (switch.update(value, 0.6, 0.4) for value in wanted) if x is not None]
    assert len(sent) == 0 if not wanted else sent[0] == (1.0 if wanted[0] >= 0.5 else 0.0)
    assert all(one != other and {one, other} == {0.0, 1.0} for one, other in zip(sent, sent[1:]))


@given(st.lists(st.floats(0.41, 0.59), min_size=1, max_size=50))
def test_a_value_between_the_thresholds_changes_nothing(wanted):
    switch = GripperSwitch()
    assert switch.update(1.0, 0.6, 0.4) == 1.0
    assert all(switch.update(value, 0.6, 0.4) is None for value in wanted)


def test_the_thresholds_themselves_switch():
    switch = GripperSwitch()
    assert [switch.update(value, 0.6, 0.4) for value in (1.0, 0.4, 0.6)] == [1.0, 0.0, 1.0]
