# SPDX-License-Identifier: Apache-2.0
"""What a node would refuse of its parameters as it starts, found out before: nothing else has begun then."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rclpy.parameter import Parameter

from vla_sd_ros.nodes.parameters import ParameterSpec

Check = Callable[[dict[str, Any]], object]


def refuse_wrong(executable: str, values: Mapping[str, Any]) -> None:
    """ValueError, with one sentence that names the node, for a type, a value, or values that do not go together.

    values: by the parameters' full names; others than the node's own are passed over. sim_arm_node is not looked at.
    """
    table, check = _of(executable)
    try:
        given = {spec.name: spec.given(_parameter(spec.name, values[spec.name])) for spec in table if spec.name in values}
        check({spec.name: spec.default for spec in table} | given)
    except ValueError as error:
        raise ValueError(f"{executable}: {error}") from error


def _parameter(name: str, value: Any) -> Parameter:
    try:
        return Parameter(name, value=value)
    except TypeError as error:
        raise ValueError(f"parameter '{name}' is {value!r}, whose entries are not of one type") from error


def _of(executable: str) -> tuple[Sequence[ParameterSpec], Check]:
    """The table of a node, and what refuses combinations."""
    if executable == "arm_node":
        from vla_sd_ros.nodes import arm_parameters

        return arm_parameters.TABLE, arm_parameters.check
    if executable == "vla_node":
        from vla_sd_ros.nodes import vla_parameters

        return vla_parameters.TABLE, vla_parameters.choice
    if executable == "sim_node":
        from vla_sd_ros.nodes import sim_parameters

        return sim_parameters.TABLE, dict
    if executable == "franka_driver":
        from vla_sd_ros.nodes.franka_driver import FrankaDriver

        return FrankaDriver.TABLE, FrankaDriver.check
    if executable == "wxai_driver":
        from vla_sd_ros.nodes.wxai_driver import WxaiDriver

        return WxaiDriver.TABLE, WxaiDriver.check
    if executable == "goal_recorder":
        from vla_sd_ros.nodes.goal_recorder import GoalRecorder

        return GoalRecorder.TABLE, dict
    return (), dict
