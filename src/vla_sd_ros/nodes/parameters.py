# SPDX-License-Identifier: Apache-2.0
"""Parameters of a node from a table, and its diagnostics at 1 Hz."""

import difflib
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.subscription import Subscription
from rosgraph_msgs.msg import Clock as ClockMessage

from vla_sd_ros import parameter_files
from vla_sd_ros.nodes.polling import from_zero_on

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
STEADY = Clock(clock_type=ClockType.STEADY_TIME)


@dataclass(frozen=True)
class ParameterSpec:
    """One parameter of a node. The default gives the type; `low` and `high` bound a number or each entry of an array.

    A `read_only` parameter takes its value from the parameter file or the command line at start and never changes.
    """

    name: str
    default: Any
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    read_only: bool = False

    def descriptor(self) -> ParameterDescriptor:
        """What `ros2 param describe` shows."""
        descriptor = ParameterDescriptor(name=self.name, description=self.description, read_only=self.read_only)
        descriptor.additional_constraints = self._constraint()
        if (bounds := self._bounds()) and isinstance(self.default, float):
            descriptor.floating_point_range = [FloatingPointRange(from_value=bounds[0], to_value=bounds[1])]
        elif bounds and isinstance(self.default, int):
            descriptor.integer_range = [IntegerRange(from_value=int(bounds[0]), to_value=int(bounds[1]))]
        return descriptor

    def check(self, value: Any) -> None:
        """Raises ValueError, with one sentence, when the value is not allowed."""
        numbers = [x for x in (value if isinstance(value, list) else [value]) if isinstance(x, (int, float))]
        if not all(math.isfinite(x) for x in numbers):
            raise ValueError(f"parameter '{self.name}' is {value}, but must be finite")
        if (bounds := self._bounds()) and not all(bounds[0] <= x <= bounds[1] for x in numbers):
            raise ValueError(f"parameter '{self.name}' is {value}, but must lie in {self.low} .. {self.high}")
        for entry in value if isinstance(value, list) else [value]:
            if self.choices and entry not in self.choices:
                raise ValueError(f"parameter '{self.name}' is '{entry}', but must be one of: {', '.join(self.choices)}")
        if isinstance(self.default, list) and not isinstance(self.default[0], str) and len(value) != len(self.default):
            raise ValueError(f"parameter '{self.name}' has {len(value)} entries, but needs {len(self.default)}")

    def given(self, parameter: Parameter) -> Any:
        """The plain value of a parameter that is given at the start. Raises ValueError for another type too."""
        expected = Parameter(self.name, value=self.default).type_
        if parameter.type_ != expected:
            hint = " (write 1.0, not 1)" if expected.name.startswith("DOUBLE") else ""
            raise ValueError(
                f"parameter '{self.name}' is {_plain(parameter.value)!r} of type {parameter.type_.name.lower()}, "
                f"but must be {expected.name.lower()}{hint}"
            )
        value = _plain(parameter.value)
        self.check(value)
        return value

    def _bounds(self) -> tuple[float, float] | None:
        return None if self.low is None or self.high is None else (self.low, self.high)

    def _constraint(self) -> str:
        if self.choices:
            return "one of: " + ", ".join(self.choices)
        if self.low is not None and isinstance(self.default, list):
            return f"each entry in {self.low} .. {self.high}"
        return ""


class TableNode(Node):
    """Parameters from the table `TABLE` and diagnostics at 1 Hz, for every kind of rclpy node. `self.values` holds the values.

    Call `start_table()` at the end of the node's rclpy constructor; it raises ValueError for a wrong parameter file.
    """

    TABLE: Sequence[ParameterSpec] = ()

    def check(self, values: dict[str, Any]) -> None:
        """Override to refuse combinations of parameters: raise ValueError with one sentence."""

    def apply(self, changed: set[str]) -> None:
        """Override to act on changed parameters. Called after the change; must not raise."""

    def diagnose(self) -> tuple[bytes, str, dict[str, Any]]:
        """Override: level (OK, WARN, ERROR), one sentence, and values for people to read."""
        return OK, "running", {}

    def create_subscription(self, msg_type: type, topic: str, callback: Callable, qos_profile: Any, **options: Any) -> Subscription:
        """As in rclpy, whose time source subscribes to /clock in this way."""
        if msg_type is ClockMessage:
            callback = from_zero_on(self, callback)
        return super().create_subscription(msg_type, topic, callback, qos_profile, **options)

    def start_table(self) -> None:
        """Declare the parameters of TABLE, check them and start the diagnostics. Raises ValueError, with one sentence."""
        self._specs = {spec.name: spec for spec in self.TABLE}
        for path in parameter_files.given(sys.argv):
            parameter_files.refuse_lost(path, parameter_files.read(path), [self.get_fully_qualified_name()])
        self._refuse_unknown_overrides()
        self.values = {spec.name: self._declare(spec) for spec in self.TABLE}
        self.check(self.values)
        self.add_on_set_parameters_callback(self._validate)
        self.add_post_set_parameters_callback(self._applied)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # A group of its own: diagnostics go on while another callback of a multi-threaded node works.
        group = MutuallyExclusiveCallbackGroup()
        self.create_timer(1.0, self._publish_diagnostics, callback_group=group, clock=STEADY)

    def _refuse_unknown_overrides(self) -> None:
        """A misspelt limit in a parameter file must not be ignored silently."""
        for name in getattr(self, "_parameter_overrides", {}):
            if name in self._specs or self.has_parameter(name) or name.startswith("qos_overrides."):
                continue
            near = difflib.get_close_matches(name, self._specs, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known are: {', '.join(self._specs)}"
            raise ValueError(f"{self.get_name()} has no parameter '{name}': {hint}")

    def _declare(self, spec: ParameterSpec) -> Any:
        given = getattr(self, "_parameter_overrides", {}).get(spec.name)
        if given is not None:
            spec.given(given)
        return _plain(self.declare_parameter(spec.name, spec.default, spec.descriptor()).value)

    def _validate(self, parameters: list[Parameter]) -> SetParametersResult:
        new = {p.name: _plain(p.value) for p in parameters if p.name in self._specs}
        try:
            for name, value in new.items():
                self._specs[name].check(value)
            self.check(self.values | new)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _applied(self, parameters: list[Parameter]) -> None:
        changed = {p.name: _plain(p.value) for p in parameters if p.name in self._specs}
        # A new dictionary: other threads may be reading the old one.
        self.values = self.values | changed
        if changed:
            self.apply(set(changed))

    def _publish_diagnostics(self) -> None:
        level, message, values = self.diagnose()
        status = DiagnosticStatus(level=level, name=self.get_fully_qualified_name().lstrip("/"), message=message)
        status.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)

    def stop(self) -> None:
        """Override to end cleanly; called before the process ends."""


class PlainNode(TableNode):
    """A node without a lifecycle that has the table and the diagnostics."""

    def __init__(self, name: str, **options: Any):
        Node.__init__(self, name, **options)
        self.start_table()


def _plain(value: Any) -> Any:
    """Parameter arrays arrive as array.array or tuple; make them lists."""
    return list(value) if hasattr(value, "__len__") and not isinstance(value, (str, bytes)) else value
