# SPDX-License-Identifier: Apache-2.0
"""What the nodes share: parameters from a table, diagnostics at 1 Hz, lifecycle transitions that speak, a clean stop.

    class ArmNode(ManagedNode):
        TABLE = (ParameterSpec("rate", 100.0, "Rate of the control loop [Hz].", 50.0, 200.0, read_only=True), ...)

        def configure(self): ...      # an exception is one logged sentence, and the transition fails
        def activate(self): ...
        def deactivate(self): ...     # also called before the process ends
        def check(self, values): ...  # raise ValueError to refuse a combination of parameters
        def apply(self, changed): ... # parameters have changed; self.values holds the new ones
        def diagnose(self): return OK, "holding", {"rate [Hz]": 99.8}

    def main(): return run(lambda: ArmNode("arm_node"))
"""

import difflib
import functools
import math
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.action import ActionClient
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.client import Client
from rclpy.clock import Clock, ClockType
from rclpy.executors import Executor, ExternalShutdownException, MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.service import Service
from rclpy.signals import SignalHandlerOptions
from rclpy.subscription import Subscription
from rclpy.timer import Timer
from rosgraph_msgs.msg import Clock as ClockMessage

from vla_sd_ros import parameter_files
from vla_sd_ros.nodes.polling import from_zero_on

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
STEADY = Clock(clock_type=ClockType.STEADY_TIME)
RCLError = rclpy_implementation.RCLError

# Time that a node has for its clean stop before the process ends regardless [s].
STOP_DEADLINE = 2.0

USAGE = """Parameters, remappings and the namespace are given as to every node:
--ros-args --params-file FILE -p NAME:=VALUE -r FROM:=TO -r __ns:=/NAMESPACE
Each parameter is explained in the files of the package's config folder, and by `ros2 param describe`."""


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
            raise ValueError(f"parameter '{self.name}' is {_plain(parameter.value)!r} of type {parameter.type_.name.lower()}, "
                             f"but must be {expected.name.lower()}{hint}")
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


class ManagedNode(TableNode, LifecycleNode):
    """A lifecycle node. Derived classes override configure, activate and deactivate, and simply raise.

    rclpy swallows exceptions in transitions: here each becomes one logged sentence, and the node stays in, or goes
    back to, the state before. Whatever configure has made, in part or in whole, one function takes away again
    (`_release`): after a configure that failed, at cleanup, after an error, at shutdown from any state.
    With the parameter `autostart` the node configures and activates itself.
    """

    AUTOSTART = ParameterSpec(
        "autostart", False, "Configure and activate at start, without a lifecycle manager.", read_only=True)

    def __init__(self, name: str, **options: Any):
        self.TABLE = (self.AUTOSTART, *self.TABLE)
        self.state = "unconfigured"
        self.made: list[Callable[[], None]] = []  # to be called to undo configure, the newest first
        self._created: list = []  # by configure, on this node
        LifecycleNode.__init__(self, name, **options)
        # A long configure must not block the parameter services or the question for the state: the two services of
        # the lifecycle leave the default group, before an executor sees them.
        self._transitions = MutuallyExclusiveCallbackGroup()
        for service in self.services:
            if service.srv_name.endswith("change_state"):
                _move(service, self._transitions)
            elif service.srv_name.endswith("get_state"):
                _move(service, MutuallyExclusiveCallbackGroup())
        self.start_table()
        if self.values["autostart"]:
            self._start_timer = self.create_timer(
                0.0, self._autostart, callback_group=self._transitions, clock=STEADY)

    @property
    def active(self) -> bool:
        """Whether the node is in the lifecycle state active."""
        return self.state == "active"

    def configure(self) -> None:
        """Override: acquire what activation needs. Raise with one sentence when that is impossible.

        Append to `self.made` what undoes each step, before the step where it may be left half done. What is created on this
        node by then (publishers, subscriptions, services, clients, timers, actions) is destroyed without an entry.
        """

    def activate(self) -> None:
        """Override: begin to act."""

    def deactivate(self) -> None:
        """Override: come to rest."""

    def on_configure(self, state) -> TransitionCallbackReturn:
        """Call `configure`; where it raises, release what it made and stay unconfigured."""
        before = self._entities()
        self.state = "configuring"
        result = self._transition("configure", "inactive", self.configure)
        self._created = [entity for entity in self._entities() if entity not in before]
        if result != TransitionCallbackReturn.SUCCESS:
            self._release()  # not while the exception lives: its traceback holds what is to go
            self.state = "unconfigured"
        return result

    def on_activate(self, state) -> TransitionCallbackReturn:
        """Call `activate`; where it raises, stay inactive."""
        return self._transition("activate", "active", self.activate)

    def on_deactivate(self, state) -> TransitionCallbackReturn:
        """Call `deactivate`; where it raises, the state machine goes on to `on_error`."""
        return self._transition("deactivate", "inactive", self.deactivate, TransitionCallbackReturn.ERROR)

    def on_cleanup(self, state) -> TransitionCallbackReturn:
        """Release what `configure` made, in the reverse order."""
        return self._transition("clean up", "unconfigured", self._release, TransitionCallbackReturn.ERROR)

    def on_shutdown(self, state) -> TransitionCallbackReturn:
        """Come to rest, then release everything; the state is finalized whatever fails."""
        result = self._transition("shut down", "finalized", self._wind_down)
        self.state = "finalized"  # as for rclpy, whatever failed
        return result

    def on_error(self, state) -> TransitionCallbackReturn:
        """Release everything, so that the node can be configured anew."""
        return self._transition("recover from an error", "unconfigured", self._release)

    def stop(self) -> None:
        """The last act before the process ends: come to rest, whatever the state."""
        if self.state in ("active", "inactive"):
            self.on_shutdown(None)

    def destroy_node(self) -> None:
        """Leave the graph at once: rclpy's state machine holds on to the node, which DDS would then miss for 20 s."""
        super().destroy_node()
        vars(self).pop("_state_machine", None)

    def _LifecycleNodeMixin__change_state(self, transition: int) -> TransitionCallbackReturn:
        """Each way into a transition. rclpy 7 (Jazzy) raises on one that the state does not allow, which ends the node."""
        try:
            return super()._LifecycleNodeMixin__change_state(transition)  # type: ignore[misc]  # its mangled name
        except RCLError as error:
            self.get_logger().error(f"{self.get_name()} is {self.state}, which does not allow this transition: {sentence(error)}")
            return TransitionCallbackReturn.ERROR

    def _wind_down(self) -> None:
        try:
            if self.active:
                self.deactivate()
        finally:
            self._release()

    def _release(self) -> None:
        """Undo what configure did, however far it came. What fails is told, and keeps nothing else from being undone."""
        while self.made:
            self._tell_failure(self.made.pop())
        created, self._created = self._created, []
        left = self._entities()
        # Timers first: they use the others.
        ends: tuple[tuple[type, Callable[[Any], object]], ...] = (
            (Timer, self.destroy_timer), (Subscription, self.destroy_subscription), (Service, self.destroy_service),
            (Client, self.destroy_client), (Publisher, self.destroy_publisher), (ActionClient, ActionClient.destroy))
        for kind, destroy in ends:
            for entity in created:
                if isinstance(entity, kind) and entity in left:
                    self._tell_failure(functools.partial(destroy, entity))

    def _entities(self) -> list:
        """Everything that hangs on this node."""
        return [*self.timers, *self.subscriptions, *self.services, *self.clients, *self.publishers, *self.waitables]

    def _tell_failure(self, act: Callable[[], Any]) -> None:
        try:
            act()
        except Exception as error:
            self.get_logger().error(f"{self.get_name()} could not undo a step of its configuration: {sentence(error)}")
            self.get_logger().debug(traceback.format_exc())

    def _transition(self, verb: str, reached: str, act: Callable[[], None],
                    failed=TransitionCallbackReturn.FAILURE) -> TransitionCallbackReturn:
        try:
            act()
        except Exception as error:
            self.get_logger().error(f"{self.get_name()} could not {verb}: {sentence(error)}")
            self.get_logger().debug(traceback.format_exc())
            return failed
        self.state = reached
        self.get_logger().info(f"{self.get_name()} is {reached}")
        return TransitionCallbackReturn.SUCCESS

    def _autostart(self) -> None:
        self._start_timer.cancel()
        if self.state == "unconfigured" and self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()


class Pool(MultiThreadedExecutor):
    """Of threads, for which its end does not wait. rclpy before 7.1.12 never does and has no parameter that says so."""

    def shutdown(self, timeout_sec: float | None = None, *, wait_for_threads: bool = False) -> bool:
        """As Executor does it, without joining the threads, whatever wait_for_threads says."""
        return Executor.shutdown(self, timeout_sec)


def single_threaded() -> Any:
    """The executor written in C++ where rclpy has it: at 100 Hz the other one alone takes a third of a core."""
    try:
        from rclpy.experimental import EventsExecutor
    except ImportError:
        return SingleThreadedExecutor()
    return EventsExecutor()


def sentence(error: BaseException) -> str:
    """The error's own sentence where it was written for people, with its type in front where it was not."""
    text = re.sub(r", at /\S+:\d+", "", str(error))  # rcl appends source lines
    written = text and isinstance(error, (ValueError, RuntimeError, OSError))
    return text if written else f"{type(error).__name__}: {text}"


def run(make_node: Callable[[], Any], threads: int = 1, args: list[str] | None = None) -> int:
    """Run a node until SIGINT or SIGTERM, let it stop cleanly, and end the process.

    Signals are handled here, not by rclpy, which would shut the context down before the last message is out.
    Exit code 0: stopped by a signal. 1: the node could not start (returned) or one of its callbacks failed.
    With --help it only says what the node is.
    """
    given = list(sys.argv[1:] if args is None else args)
    if {"-h", "--help"} & set(given[:given.index("--ros-args")] if "--ros-args" in given else given):
        print(f"{(sys.modules[make_node.__module__].__doc__ or '').strip()}\n\n{USAGE}")
        return 0
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        node = make_node()
    except Exception as error:
        print(f"could not start: {sentence(error)}", file=sys.stderr, flush=True)
        return 1
    executor = single_threaded() if threads == 1 else Pool(threads)
    executor.add_node(node)
    code = 0
    try:
        while not stopping.is_set():
            executor.spin_once(timeout_sec=0.1)
    except ExternalShutdownException:
        pass
    except Exception as error:
        node.get_logger().fatal(f"{node.get_name()} stops, because a callback failed: {sentence(error)}")
        node.get_logger().fatal(traceback.format_exc())
        code = 1
    _end(node, executor, code)


def _end(node: Any, executor: Any, code: int) -> NoReturn:
    """Let the node stop cleanly, then end the process."""
    # A callback that never returns (a stuck inference) must not keep the process alive.
    deadline = threading.Timer(STOP_DEADLINE, os._exit, (code,))
    deadline.daemon = True
    deadline.start()
    try:
        node.stop()
        executor.shutdown(timeout_sec=0.5)
        node.destroy_node()
        rclpy.try_shutdown()
    except Exception as error:
        print(f"could not stop cleanly: {sentence(error)}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads of a pool that still work would be waited for


def _plain(value: Any) -> Any:
    """Parameter arrays arrive as array.array or tuple; make them lists."""
    return list(value) if hasattr(value, "__len__") and not isinstance(value, (str, bytes)) else value


def _move(service, group) -> None:
    """Put a service that rclpy created into another callback group."""
    service.callback_group = group
    group.add_entity(service)
