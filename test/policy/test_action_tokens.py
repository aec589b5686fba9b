# SPDX-License-Identifier: Apache-2.0
"""Bins and values follow OpenVLA's arithmetic, exhaustively, and statistics invert."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_sd_ros.policy.actions import (
    ActionStatistics,
    check_units,
    decode,
    encode,
    read_statistics,
    statistics_of,
    write_statistics,
)


def statistics(largest: float, dimension: int, masked: bool = True) -> ActionStatistics:
    """Steps of 0.02 m, 0.05 rad, except along one dimension."""
    q99 = np.array([0.02] * 3 + [0.05] * 3 + [1.0])
    q99[dimension] = largest
    mask = np.array([True] * 6 + [False])
    mask[dimension] = masked
    return ActionStatistics(-0.5 * q99, q99, mask)


def test_steps_in_other_units_than_metres_and_radians_are_told():
    check_units({"k": statistics(0.2, 1)}, "k", (0.25, 1.25))
    check_units({"k": statistics(5.0, 6)}, "k", (0.25, 1.25))  # the gripper has no unit
    with pytest.raises(ValueError, match="hold steps of 0.94 m in z, more than 0.25 m"):
        check_units({"k": statistics(0.94, 2)}, "k", (0.25, 1.25))
    with pytest.raises(ValueError, match="hold steps of 20 rad in yaw, more than 1.25 rad"):
        check_units({"k": statistics(-20.0, 5)}, "k", (0.25, 1.25))
    with pytest.raises(ValueError, match="hold steps of 1 m in x"):
        check_units({"k": statistics(0.02, 0, masked=False)}, "k", (0.25, 1.25))


def test_every_bin_decodes_to_the_middle_of_its_edges():
    edges = np.linspace(-1, 1, 256)
    for digit in range(1, 257):  # token id = end - digit; index = clip(digit - 1, 0, 254)
        index = min(digit - 1, 254)
        assert decode(np.array([digit - 1]))[0] == pytest.approx((edges[index] + edges[index + 1]) / 2)


def test_encode_inverts_decode():
    bins = np.arange(255)
    assert np.array_equal(encode(decode(bins)), bins)
    assert decode(np.array([255]))[0] == decode(np.array([254]))[0]


def test_values_out_of_range_are_clipped():
    assert encode(np.array([-7.0, 7.0])).tolist() == [0, 255]


@given(st.floats(-1, 1))
def test_a_round_trip_loses_less_than_a_bin(value):
    assert abs(decode(encode(np.array([value])))[0] - value) <= 1 / 255 + 1e-9


def test_unnormalise_inverts_normalise_and_leaves_the_gripper_raw(tmp_path):
    rng = np.random.default_rng(0)
    actions = np.column_stack([rng.normal(size=(500, 6)) * 0.02, rng.integers(0, 2, 500)])
    write_statistics(tmp_path / "s.json", "key", statistics_of(actions))
    statistics = read_statistics(tmp_path / "s.json")["key"]
    inside = np.all((actions >= statistics.q01) & (actions <= statistics.q99), axis=1)
    assert inside.sum() > 300
    back = statistics.unnormalise(statistics.normalise(actions[inside]))
    assert np.allclose(back, actions[inside])
    assert statistics.unnormalise(np.zeros(7))[6] == 0.0


def test_bridge_orig_middle_is_half_way_between_the_quantiles():
    q01 = np.array([-0.0287273, -0.0417035, -0.0260939, -0.0809211, -0.0928870, -0.2071828, 0])
    q99 = np.array([0.0283097, 0.0408553, 0.0401616, 0.0819205, 0.0779285, 0.2038257, 1])
    statistics = ActionStatistics(q01, q99, np.array([True] * 6 + [False]))
    assert np.allclose(statistics.unnormalise(np.zeros(7))[:6], (q01 + q99)[:6] / 2)


def test_malformed_statistics_name_their_key(tmp_path):
    (tmp_path / "s.json").write_text('{"mine": {"action": {"q01": [1, 2]}}}')
    with pytest.raises(ValueError, match="mine"):
        read_statistics(tmp_path / "s.json")
