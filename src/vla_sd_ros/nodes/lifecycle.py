# SPDX-License-Identifier: Apache-2.0
"""What the managed nodes share: lifecycle transitions that speak, and a configure of which nothing is left where it fails.

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

import functools
import traceback
from collections.abc import Callable
from typing import Any

from rclpy.action import ActionClient
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.client import Client
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.publisher import Publisher
from rclpy.service import Service
from rclpy.subscription import Subscription
from rclpy.timer import Timer

from vla_sd_ros.nodes.parameters import STEADY, ParameterSpec, TableNode
from vla_sd_ros.nodes.process import sentence

RCLError = rclpy_implementation.RCLError


class ManagedNode(TableNode, LifecycleNode):
    """A lifecycle node. Derived classes override configure, activate and deactivate, and simply raise.

    rclpy swallows exceptions in transitions: here each becomes one logged sentence, and the node stays in, or goes
    back to, the state before. Whatever configure has made, in part or in whole, one function takes away again
    (`_release`): after a configure that failed, at cleanup, after an error, at shutdown from any state.
    With the parameter `autostart` the node configures and activates itself.
    """

    AUTOSTART = ParameterSpec("autostart", False, "Configure and activate at start, without a lifecycle manager.", read_only=True)

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
            self._start_timer = self.create_timer(0.0, self._autostart, callback_group=self._transitions, clock=STEADY)

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
            (Timer, self.destroy_timer),
            (Subscription, self.destroy_subscription),
            (Service, self.destroy_service),
            (Client, self.destroy_client),
            (Publisher, self.destroy_publisher),
            (ActionClient, ActionClient.destroy),
        )
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

    def _transition(
        self, verb: str, reached: str, act: Callable[[], None], failed=TransitionCallbackReturn.FAILURE
    ) -> TransitionCallbackReturn:
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


def _move(service, group) -> None:
    """Put a service that rclpy created into another callback group."""
    service.callback_group = group
    group.add_entity(service)
