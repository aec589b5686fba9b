# SPDX-License-Identifier: Apache-2.0
"""A node's live parameters as plain data: value, unit, range, choices, from the descriptions that it gives itself."""

import math
import re
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor, ParameterType, ParameterValue
from rclpy.parameter import Parameter, parameter_value_to_python

from vla_sd_ros.console import Refused
from vla_sd_ros.quoting import quoted

KINDS = {
    ParameterType.PARAMETER_BOOL: "bool",
    ParameterType.PARAMETER_INTEGER: "int",
    ParameterType.PARAMETER_DOUBLE: "float",
    ParameterType.PARAMETER_STRING: "str",
    ParameterType.PARAMETER_INTEGER_ARRAY: "list of int",
    ParameterType.PARAMETER_DOUBLE_ARRAY: "list of float",
    ParameterType.PARAMETER_STRING_ARRAY: "list of str",
}
TYPES = {kind: Parameter.Type(number) for number, kind in KINDS.items()}
WORDS = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "text"}
FIXED = "Changeable only while the node is unconfigured"  # how vla_node describes what an operator cannot change
HIDDEN = "use_sim_time"  # every node has it, and no operator changes it while an arm moves
LARGEST = 2**63 - 1
LONGEST = 1000  # characters of a text, entries of a list


def table(descriptors: list[ParameterDescriptor], values: list[ParameterValue]) -> list[dict]:
    """One entry for each parameter that can be changed while the node runs."""
    return [
        entry(descriptor, value)
        for descriptor, value in zip(descriptors, values)
        if not descriptor.read_only and FIXED not in descriptor.description and value.type in KINDS and descriptor.name != HIDDEN
    ]


def entry(descriptor: ParameterDescriptor, value: ParameterValue) -> dict:
    """low, high: None where there is no range. unit: empty where the description names none.

    Of unit, choices and the range of an array's entries, ROS describes a parameter in text alone: nodes.parameters writes it, and
    of a node that words it otherwise the page shows less.
    """
    text, constraint = descriptor.description, descriptor.additional_constraints
    unit, ranges = re.search(r"\[([^\]]+)\]", text), [*descriptor.floating_point_range, *descriptor.integer_range]
    low, high = (ranges[0].from_value, ranges[0].to_value) if ranges else (None, None)
    if each := re.fullmatch(r"each entry in (\S+) \.\. (\S+)", constraint):
        low, high = float(each[1]), float(each[2])
    choices = constraint.removeprefix("one of: ").split(", ") if constraint.startswith("one of: ") else []
    return {
        "name": descriptor.name,
        "kind": KINDS[value.type],
        "value": plain(value),
        "description": text,
        "unit": unit[1] if unit else "",
        "low": low,
        "high": high,
        "choices": choices,
    }


def plain(value: ParameterValue) -> Any:
    """As JSON has it."""
    found: Any = parameter_value_to_python(value)
    return list(found) if hasattr(found, "__len__") and not isinstance(found, str) else found


def message(known: dict, value: Any) -> Any:
    """A parameter of table() with another value, as a message. Refused where the value is of another kind."""
    kind = known["kind"]
    of, is_list = kind.removeprefix("list of "), kind.startswith("list of ")
    fits = isinstance(value, list) and len(value) <= LONGEST if is_list else True
    if not fits or not all(_fits(of, one) for one in (value if is_list else [value])):
        wanted = f"a list, each entry {WORDS[of]}" if is_list else WORDS[of]
        raise Refused(f"{known['name']} takes {wanted}, not {quoted(str(value))}")
    if of == "float":
        value = [float(one) for one in value] if is_list else float(value)
    return Parameter(known["name"], TYPES[kind], value).to_parameter_msg()


def _fits(kind: str, value: Any) -> bool:
    if kind == "bool":
        return isinstance(value, bool)
    if kind == "str":
        return isinstance(value, str) and len(value) <= LONGEST
    number = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST
    return number or (kind == "float" and isinstance(value, float) and math.isfinite(value))
