# SPDX-License-Identifier: Apache-2.0
"""Unit, range and choices come from a node's own descriptions; what cannot change is left out; a wrong kind is one sentence."""

import math

import pytest
from rcl_interfaces.msg import ParameterType
from rclpy.parameter import Parameter

from vla_sd_ros.console import Refused, parameters
from vla_sd_ros.nodes.arm_node import ArmNode
from vla_sd_ros.nodes.parameters import ParameterSpec
from vla_sd_ros.nodes.vla_node import VlaNode


def shown(*specs: ParameterSpec) -> list[dict]:
    values = [Parameter(spec.name, value=spec.default).to_parameter_msg().value for spec in specs]
    return parameters.table([spec.descriptor() for spec in specs], values)


def test_every_live_parameter_of_both_nodes_is_shown_and_no_other():
    for node in (VlaNode, ArmNode):
        live = {spec.name: spec for spec in node.TABLE if not spec.read_only and "while the node is unconf" not in spec.description}
        table = {known["name"]: known for known in shown(*node.TABLE)}
        assert table.keys() == live.keys() and len(table) > 20
        for name, known in table.items():
            spec = live[name]
            assert known["value"] == spec.default and (known["low"], known["high"]) == (spec.low, spec.high)
            assert known["choices"] == list(spec.choices) or isinstance(spec.default, list)
            assert known["unit"] in spec.description


def test_units_are_those_of_the_description():
    known = {known["name"]: known["unit"] for known in shown(*ArmNode.TABLE)}
    assert known["limits.linear_jerk"] == "m/s^3" and known["workspace.min"] == "m" and known["dry_run"] == ""


@pytest.mark.parametrize(
    "default, value, words",
    [
        (0.2, "fast", "takes a number, not"),
        (0.2, math.nan, "takes a number"),
        (0.2, True, "takes a number"),
        (0.2, None, "a number"),
        (5, 0.5, "takes a whole number"),
        (5, 2**70, "takes a whole number"),
        (False, 1, "takes true or false"),
        ("a", 1, "takes text"),
        ("a", "x" * 2000, "takes text"),
        ([0.1, 0.2], 0.1, "takes a list, each entry a number"),
        ([0.1, 0.2], ["x"], "takes a list"),
    ],
)
def test_a_value_of_another_kind_is_one_sentence(default, value, words):
    (known,) = shown(ParameterSpec("one", default, "One."))
    with pytest.raises(Refused, match=f"^one .*{words}"):
        parameters.message(known, value)


@pytest.mark.parametrize(
    "default, value, kind",
    [
        (0.2, 1, ParameterType.PARAMETER_DOUBLE),
        (5, 7, ParameterType.PARAMETER_INTEGER),
        (False, True, ParameterType.PARAMETER_BOOL),
        ([0.1], [1, 2.5], ParameterType.PARAMETER_DOUBLE_ARRAY),
        (["a"], ["b", "c"], ParameterType.PARAMETER_STRING_ARRAY),
    ],
)
def test_a_value_keeps_the_kind_of_its_parameter(default, value, kind):
    (known,) = shown(ParameterSpec("one", default, "One."))
    message = parameters.message(known, value)
    assert message.value.type == kind and parameters.plain(message.value) == value


def test_the_switch_to_simulated_time_is_not_offered():
    assert shown(ParameterSpec("use_sim_time", False, "Time.")) == []
