# SPDX-License-Identifier: Apache-2.0
"""The controller that takes the targets, as ros2_control's controller_manager sees it: whether it is active, and the way back.

After a reflex of the robot controller_manager switches off every controller that uses the hardware, and says so only to who
asks: its topic ~/activity tells of ordinary switches alone (jazzy and kilted). So it is asked, LOOKS times a second. Nobody
but `recover` brings a controller back, and `recover` does nothing by itself.
"""

import math
from collections.abc import Callable, Generator
from typing import Any

from rclpy.action import ActionClient
from rclpy.task import Future

from vla_sd_ros.arms import required
from vla_sd_ros.arms.wiring import PATIENCE

LOOKS = 5.0  # Hz
STEP_TIME = 10.0  # s, for each step of a recovery
ON_ITS_WAY = 0.3  # s, that a topic may need to the controller; between two processes it keeps no order with a service
SUCCEEDED = 4  # of action_msgs/GoalStatus
ACTIVE = 3  # of lifecycle_msgs/State
STRICT = 2  # of SwitchController: all or an error


class Controllers:
    """controller.name of controller.manager; without a name there is nothing to watch."""

    def __init__(self, node: Any):
        values = node.values
        self._node, self.name, self._manager = node, values["controller.name"], values["controller.manager"]
        self._hardware = values["controller.hardware"]
        self._now, self._asked_at, self._answer = 0.0, -math.inf, None
        self._heard_at = math.inf  # s, the last answer, or where there is none the first poll; at first later than any time
        self._states: dict[str, str] = {}  # of all controllers, by the last answer
        self._answered = False
        self._used: set[str] = set()  # those that were active beside ours when it was active last
        self._lost = False  # it was active, and then was not: nothing goes on before `recover`
        self._list = self._component = self._switch = None
        self._recovery: ActionClient | None = None
        self._recovery_name, self._unrecoverable = values["controller.recovery_action"], ""
        if self.name:
            types = required("controller_manager_msgs.srv", "of controller_manager", "leave controller.name empty")
            self._types = types
            self._list = node.create_client(types.ListControllers, f"{self._manager}/list_controllers")
            self._switch = node.create_client(types.SwitchController, f"{self._manager}/switch_controller")
            self._component = node.create_client(types.SetHardwareComponentState, f"{self._manager}/set_hardware_component_state")
        if self._recovery_name:
            try:
                self._action = required("franka_msgs.action", "of controller.recovery_action", "leave it empty").ErrorRecovery
                self._recovery = ActionClient(node, self._action, self._recovery_name)
            except ImportError as error:  # the arm moves without it, until a fault
                self._unrecoverable = str(error)

    @property
    def known(self) -> bool:
        """Whether there is anything that `recover` could do."""
        return self._list is not None or bool(self._recovery_name)

    @property
    def inactive(self) -> bool:
        """Whether the controller, as far as is known, takes no targets."""
        return self._list is not None and self._states.get(self.name) != "active"

    def poll(self, now: float) -> None:
        """Ask, and take the answers; `now` [s, steady]. To be called at 10 Hz or more."""
        self._now = now
        if self._list is None:
            return
        self._heard_at = min(self._heard_at, now)
        if self._answer is not None and self._answer.done():
            self._take({c.name: c.state for c in self._answer.result().controller})
            self._heard_at, self._answer, self._answered = now, None, True
        due = now - self._asked_at >= (1.0 / LOOKS if self._answer is None else PATIENCE)
        if due and self._list.service_is_ready():
            if self._answer is not None:
                self._list.remove_pending_request(self._answer)
            self._asked_at, self._answer = now, self._list.call_async(self._types.ListControllers.Request())

    def fault(self, now: float) -> str:
        """One sentence while no targets must be sent; empty while the controller is active, or none is watched."""
        if self._list is None:
            return ""
        if not self._answered and now - self._heard_at <= PATIENCE:
            return f"{self._manager} has not said yet whether the controller '{self.name}' is active"
        if now - self._heard_at > PATIENCE:
            return (
                f"{self._manager}/list_controllers does not answer: start the robot's driver, or correct controller.manager, or "
                "leave controller.name empty"
            )
        state = self._states.get(self.name)
        if state is None:
            return (
                f"{self._manager} has no controller '{self.name}': load it, or correct controller.name; it has: "
                f"{', '.join(self._states) or 'none'}"
            )
        if state != "active":
            return f"the controller '{self.name}' is {state}: " + (
                "the robot had a fault, or somebody switched it off; see why, then call the service ~/recover"
                if self._lost
                else "activate it, or call the service ~/recover"
            )
        if self._lost:
            return (
                f"the controller '{self.name}' was switched off and is active again: the next goal may begin after the "
                "service ~/recover was called"
            )
        return ""

    def recover(self, ready: Callable[[], bool], leave: Callable[[], None]) -> Generator[None, None, str]:
        """Bring the robot back; a sentence where that fails, else empty. In the order that franka_ros2 documents.

        One step after the other: to be continued after each `poll`. `ready`: whether the arm's pose is measured; `leave`: tell it
        to the controller, before that is activated.
        """
        if not self.known:
            return (
                "this arm_node knows no way to recover a robot: set controller.name, or controller.recovery_action, or "
                "recover it with its driver's own tools"
            )
        if self._list is not None:
            yield from self._look()
            if self._states.get(self.name) == "active":  # somebody was here before
                self._lost = False
                return self.fault(self._now)
        return (
            (yield from self._recover_robot())
            or (yield from self._activate_hardware())
            or (yield from self._activate_controllers(ready, leave))
        )

    def close(self) -> None:
        """Destroy the clients of controller_manager and of the recovery action."""
        for client in filter(None, (self._list, self._switch, self._component)):
            self._node.destroy_client(client)
        if self._recovery is not None:
            self._recovery.destroy()

    def _take(self, states: dict[str, str]) -> None:
        self._lost = self._lost or (self._states.get(self.name) == "active" and states.get(self.name) != "active")
        self._states = states
        if states.get(self.name) == "active" and not self._lost:
            self._used = {name for name, state in states.items() if state == "active"}

    def _recover_robot(self) -> Generator[None, None, str]:
        if self._recovery is None:
            return self._unrecoverable
        name = self._recovery_name
        if not self._recovery.server_is_ready():
            return f"nobody offers the action {name}: start the robot's driver, or correct controller.recovery_action"
        handle = yield from self._within(self._recovery.send_goal_async(self._action.Goal()))
        result = (yield from self._within(handle.get_result_async())) if handle and handle.accepted else None
        return "" if result and result.status == SUCCEEDED else f"{name} did not succeed: see what the robot's driver prints"

    def _activate_hardware(self) -> Generator[None, None, str]:
        if self._list is None or not self._hardware:
            return ""
        request = self._types.SetHardwareComponentState.Request(name=self._hardware)
        request.target_state.id, request.target_state.label = ACTIVE, "active"
        answer = yield from self._call(self._component, request)
        return "" if answer and answer.ok else f"{self._manager} could not activate the hardware '{self._hardware}'"

    def _activate_controllers(self, ready: Callable[[], bool], leave: Callable[[], None]) -> Generator[None, None, str]:
        """First those that publish joint states; then ours, once it has been told where the arm is."""
        if self._list is None:
            return ""
        others = sorted(name for name in self._used - {self.name} if self._states.get(name) == "inactive")
        if problem := (yield from self._activate(others)):
            return problem
        yield from self._until(ready)
        told = self._now
        while ready() and self._now - told < ON_ITS_WAY:
            leave()
            yield
        if not ready():
            return "no usable joint states have come, so the controller was not activated"
        if problem := (yield from self._activate([self.name])):
            return problem
        yield from self._look()
        self._lost = self._states.get(self.name) != "active"
        return self.fault(self._now)

    def _activate(self, names: list[str]) -> Generator[None, None, str]:
        if not names:
            return ""
        request = self._types.SwitchController.Request(activate_controllers=names, strictness=STRICT)
        answer = yield from self._call(self._switch, request)
        said = f": {answer.message}" if answer and answer.message else ""
        return "" if answer and answer.ok else f"{self._manager} could not activate {', '.join(names)}{said}"

    def _look(self) -> Generator[None, None, None]:
        """Until an answer has come to a question that is asked from here on."""
        begun = self._now
        yield from self._until(lambda: self._heard_at > begun and self._asked_at > begun)

    def _call(self, client: Any, request: Any) -> Generator[None, None, Any]:
        return (yield from self._within(client.call_async(request))) if client.service_is_ready() else None

    def _within(self, future: Future) -> Generator[None, None, Any]:
        """The result of a future, or None where STEP_TIME runs out."""
        yield from self._until(future.done)
        return future.result() if future.done() else None

    def _until(self, condition: Callable[[], Any]) -> Generator[None, None, None]:
        """Until, after a `poll`, the condition holds or STEP_TIME has run out."""
        end = self._now + STEP_TIME
        yield
        while not condition() and self._now <= end:
            yield
