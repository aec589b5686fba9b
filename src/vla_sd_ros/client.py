# SPDX-License-Identifier: Apache-2.0
"""Sends instructions to vla_node from Python, without the plumbing of actions (as BasicNavigator of Nav2 does).

rclpy.init()
with InstructionClient("vla") as client:
    client.wait_until_active()
    client.start("put the bowl on the plate", time_limit=60.0)
    while not client.is_complete():
        print(client.feedback.step if client.feedback else "...")
    print(client.result().termination_reason)
"""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from action_msgs.msg import GoalInfo, GoalStatus
from action_msgs.srv import CancelGoal
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.action import ActionClient
from rclpy.action.client import ClientGoalHandle
from rclpy.client import Client
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.task import Future
from unique_identifier_msgs.msg import UUID
from vla_sd_msgs.action import ExecuteInstruction

from vla_sd_ros.instruction import objection

LOOK_PERIOD = 1.0  # s, between two looks at who offers the action
MOST_QUESTIONS = 10  # about a goal, to who was not there when it began
LAST_WAIT = 1.0  # s, for which close() waits for the answer to a goal that was given up


class GoalRejected(RuntimeError):
    """The goal never began; the message is vla_node's own sentence, or what it would say of the instruction."""


@dataclass
class _Goal:
    """One that vla_node has taken."""

    handle: ClientGoalHandle
    asked: Future  # for the result
    servers: set[bytes]  # those that offered the action when it began
    questions: list[Future] = field(default_factory=list)  # about it, to others that do so now
    look_at: float = 0.0
    lost: bool = False

    @property
    def answer(self) -> Any:
        """Status and result; None until it has ended."""
        return self.asked.result()


class InstructionClient:
    """One goal at a time. Call from one thread; every waiting method spins the client's own node.

    Needs rclpy.init() before. namespace: that of vla_node. context: an rclpy context other than the default one.
    """

    def __init__(self, namespace: str = "vla", node_name: str = "instruction_client", context=None):
        self.node = Node(node_name, namespace=namespace, context=context)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self._client: ActionClient = ActionClient(self.node, ExecuteInstruction, "execute_instruction")
        self._cancels: Client = self.node.create_client(CancelGoal, "execute_instruction/_action/cancel_goal")
        self._state: Client = self.node.create_client(GetState, "vla_node/get_state")
        self._sent: Future | None = None  # the newest goal
        self._given_up: list[Future] = []  # answers to goals that nobody waits for any more, and to their cancel requests
        self._forget()

    def wait_for_node(self, timeout: float = 10.0) -> None:
        """Returns when the action server is there; TimeoutError, one sentence, when it is not within `timeout` s."""
        if not self.spin_until(self._client.server_is_ready, timeout):
            raise TimeoutError(f"no vla_node offers the action {self.action_name}; start it, or correct the namespace")

    def wait_until_active(self, timeout: float = 60.0, check: Callable[[], None] = lambda: None) -> None:
        """Returns when vla_node is active, which takes until its model is loaded; TimeoutError, one sentence, otherwise.

        check: called some times a second, to give up by raising.
        """
        deadline, label = time.monotonic() + timeout, "not there"
        while (left := deadline - time.monotonic()) > 0.0:
            check()
            asked = self._state.call_async(GetState.Request()) if self._state.service_is_ready() else None
            if asked and self.spin_until(asked.done, min(left, 1.0)) and (answer := asked.result()):
                label = answer.current_state.label
                if answer.current_state.id == State.PRIMARY_STATE_ACTIVE:
                    return
            self.spin_until(lambda: False, min(left, 0.2))
        raise TimeoutError(
            f"vla_node of {self.node.get_namespace()} is {label} after {timeout:g} s, not active; start it, or configure and "
            "activate it"
        )

    @property
    def action_name(self) -> str:
        """The full name of the action, with its namespace."""
        return self.node.resolve_topic_name("execute_instruction")

    def start(self, instruction: str, time_limit: float = 0.0, step_limit: int = 0, timeout: float = 10.0) -> None:
        """Sends a goal; returns when vla_node has it. Limits [s, actions]; 0: those of the node's parameters.

        Whether it begins is_complete() and result() tell. GoalRejected for an instruction that is none: not all of it would
        arrive, as text ends at a U+0000 in ROS. ValueError for a limit that is none. TimeoutError when no answer comes:
        the goal is given up then, and cancelled. A vla_node that was stopped, and goes on, finds the cancel request beside the
        goal, also when this client is gone; where it comes too early, another is sent when the goal is taken, which takes a client
        that is spun (`unanswered`).
        """
        if not 0 <= step_limit < 2**32:  # rclpy would send another one
            raise ValueError(f"step_limit is {step_limit}, but must be a whole number from 0 to {2**32 - 1}")
        if not 0.0 <= time_limit < math.inf:
            raise ValueError(f"time_limit is {time_limit}, but must be a number of seconds, 0 or more")
        if wrong := objection(instruction):
            raise GoalRejected(f"the instruction {wrong}; say in words what the arm shall do.")
        self.wait_for_node(timeout)
        self._forget()
        goal = ExecuteInstruction.Goal(instruction=instruction, time_limit=float(time_limit), step_limit=step_limit)
        goal_id = UUID(uuid=list(uuid4().bytes))
        self._sent = sent = self._client.send_goal_async(goal, self._on_feedback, goal_id)
        try:
            if not self.spin_until(sent.done, timeout):
                raise TimeoutError(
                    f"vla_node did not answer the goal within {timeout:g} s, so it is given up, and cancelled should "
                    "vla_node take it yet"
                )
        except BaseException:  # also Ctrl-C: nobody waits for the goal any more
            self._give_up(sent, goal_id)
            raise
        handle = sent.result()
        if handle is None or not handle.accepted:
            raise GoalRejected("The goal was rejected; vla_node gives a reason, so what offers the action is something else.")
        self._follow(handle)

    def is_complete(self, timeout: float = 0.1) -> bool:
        """Whether the goal has ended; waits for that at most `timeout` s.

        GoalRejected when it never began, ConnectionError when vla_node is gone.
        """
        goal = self._started()
        done = self.spin_until(goal.asked.done, timeout)
        goal.lost = goal.lost or self._is_lost(goal)
        if goal.lost:
            raise ConnectionError(
                "vla_node is gone and took the goal with it; start it, unless that was done already, and send the goal again"
            )
        if done and goal.answer.result.error_code == ExecuteInstruction.Result.GOAL_REFUSED:
            raise GoalRejected(goal.answer.result.error_msg)
        return done

    def cancel(self, timeout: float = 5.0) -> bool:
        """Asks vla_node to stop; whether it will. False: the goal was over already."""
        answer: Future = self._started().handle.cancel_goal_async()
        if not self.spin_until(answer.done, timeout):
            raise TimeoutError(f"vla_node did not answer the cancel request within {timeout:g} s")
        return bool((response := answer.result()) and response.goals_canceling)

    def result(self, timeout: float = float("inf")) -> ExecuteInstruction.Result:
        """The result, waiting at most `timeout` s for it; TimeoutError when it does not come, the others as is_complete."""
        deadline = time.monotonic() + timeout
        while not self.is_complete(max(0.0, min(0.1, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                raise TimeoutError(f"the goal did not end within {timeout:g} s")
        return self._started().answer.result

    @property
    def running(self) -> bool:
        """Whether an accepted goal has no result yet, as far as this client has heard; also one that was given up and taken then."""
        return self._goal is not None and not self._goal.asked.done() and not self._goal.lost

    @property
    def unanswered(self) -> bool:
        """Whether a goal that was given up may still be taken, and would be cancelled then if this client is spun."""
        return bool(self._given_up)

    @property
    def status(self) -> int:
        """The state of the goal as a constant of action_msgs/msg/GoalStatus."""
        goal = self._started()
        return goal.answer.status if goal.asked.done() else goal.handle.status

    def __enter__(self) -> "InstructionClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the node. A goal that still runs goes on, unless goal.client_timeout of vla_node says otherwise.

        For the answer to a goal that was given up it waits 1 s.
        """
        with suppress(ExternalShutdownException):
            self.spin_until(lambda: not self.unanswered, LAST_WAIT)
        self._client.destroy()
        self._executor.shutdown()
        self.node.destroy_node()

    def _forget(self) -> None:
        self.feedback: ExecuteInstruction.Feedback | None = None
        self._goal: _Goal | None = None

    def _follow(self, handle: ClientGoalHandle) -> None:
        self._goal = _Goal(handle, handle.get_result_async(), self._servers_now())

    def _give_up(self, sent: Future, goal_id: UUID) -> None:
        """Cancel a goal that is not answered, now and when it is."""
        if self.node.context.ok():
            self._given_up.append(sent)
            self._cancels.call_async(CancelGoal.Request(goal_info=GoalInfo(goal_id=goal_id)))
            sent.add_done_callback(self._on_late_answer)

    def _on_late_answer(self, sent: Future) -> None:
        handle = sent.result()
        if handle is not None and handle.accepted:
            self._given_up.append(canceled := handle.cancel_goal_async())
            canceled.add_done_callback(self._given_up.remove)
            if sent is self._sent:  # no newer goal was sent
                self._follow(handle)
        self._given_up.remove(sent)

    def _is_lost(self, goal: _Goal) -> bool:
        """Whether the goal has gone with the vla_node that accepted it; another one may offer the action already.

        DDS misses a killed node after 20 s. One that was started in its place is new in the graph: asked for the result, it
        answers that it knows no such goal.
        """
        if goal.asked.done():
            return goal.answer.status == GoalStatus.STATUS_UNKNOWN
        if not self._client.server_is_ready():
            return True
        now = time.monotonic()
        if now >= goal.look_at and len(goal.questions) < MOST_QUESTIONS:
            goal.look_at = now + LOOK_PERIOD
            if self._servers_now() - goal.servers:
                goal.questions.append(goal.handle.get_result_async())
        return any((answer := asked.result()) and answer.status == GoalStatus.STATUS_UNKNOWN for asked in goal.questions)

    def _servers_now(self) -> set[bytes]:
        """Who offers the action: what tells them apart is the identity of a publisher, which no restarted node has again."""
        return {bytes(info.endpoint_gid) for info in self.node.get_publishers_info_by_topic(f"{self.action_name}/_action/status")}

    def _started(self) -> _Goal:
        if self._goal is None:
            raise RuntimeError(
                "the goal was given up, because vla_node did not answer it, and is cancelled should it be taken yet"
                if self.unanswered
                else "no goal was started; call start() first"
            )
        return self._goal

    def _on_feedback(self, message) -> None:
        if self._goal is None or bytes(message.goal_id.uuid) == bytes(self._goal.handle.goal_id.uuid):
            self.feedback = message.feedback

    def spin_until(self, condition, timeout: float) -> bool:
        """Spins the client's node until the condition holds; whether it does so within `timeout` s."""
        deadline = time.monotonic() + timeout
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0.0:
                return False
            self._executor.spin_once(timeout_sec=min(left, 0.1))
        return True
