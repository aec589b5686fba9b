# SPDX-License-Identifier: Apache-2.0
"""Joint states that come, but late by their stamps, ever later, or with a joint twice, do not tell where the arm is."""

import numpy as np
import pytest

from vla_sd_ros.control.joint_states import JointStateWatch, late, picked

NAMES = ["a", "b"]


def test_lateness_that_grows_slowly_is_noticed_though_no_stamp_jumps():
    """A publisher whose queue fills by 7 ms a second: 4 s late after ten minutes."""
    watch = JointStateWatch(NAMES, np.full(2, -2.0), np.full(2, 2.0), np.full(2, 2.0))
    noticed = None
    for now in np.arange(0.0, 600.0, 0.05):
        age = 0.007 * now
        assert watch.check(np.zeros(2), 1000.0 + now - age, now) is None
        if noticed is None and late(age, 0.2):
            noticed = age
    assert noticed == pytest.approx(0.2, abs=0.001)


def test_the_sentence_says_how_late_and_what_to_look_for():
    assert late(0.1, 0.2) == late(-0.1, 0.2) == ""
    assert late(-3.0, 0.2) == "they come, but are stamped 3.00 s in the future: see whether the clocks agree"
    assert late(4.0, 0.2) == (
        "they come, but are 4.00 s old by their stamps: see whether their publisher falls behind, and whether the clocks agree"
    )


def test_positions_are_those_of_the_names_whatever_else_is_in_the_message():
    np.testing.assert_array_equal(picked(NAMES, ["finger", "b", "a"], [9.0, 2.0, 1.0]), [1.0, 2.0])
    assert picked(NAMES, ["finger", "finger"], [9.0, 8.0]) is None


@pytest.mark.parametrize(
    "names, positions, words",
    [
        (["a"], [1.0], "joint_states lacks the position of 'b'"),
        (["a", "b"], [1.0], "joint_states lacks the position of 'b'"),
        (["a", "b", "a"], [1.0, 2.0, 3.0], "joint_states names 'a' 2 times in one message"),
    ],
)
def test_what_is_wrong_with_a_message_is_said(names, positions, words):
    with pytest.raises(ValueError) as error:
        picked(NAMES, names, positions)
    assert str(error.value) == words
