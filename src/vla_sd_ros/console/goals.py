# SPDX-License-Identifier: Apache-2.0
"""The goal that runs and the one before it, whoever sent them, as plain data."""

import math
from collections.abc import Callable
from threading import RLock
from typing import Any

from action_msgs.msg import GoalStatus
from std_msgs.msg import String
from vla_sd_msgs.action import ExecuteInstruction
from vla_sd_msgs.msg import RunningGoal

from vla_sd_ros.messages.qos import LATCHED
from vla_sd_ros.send import warnings

SENTENCES = 50  # that are kept


class Goals:
    """Heard from the topics that every client of vla_node's action has. Callbacks in the node's own thread; `lock` guards all.

    running: instruction, step, elapsed [s] and warnings of the goal that runs, None without one. last: of the one that ended
    last, with the reason and figures. sentences: of the scene, and of goals, in the order in which they came. status_topic: the
    action's, whose publishers are its servers.
    """

    def __init__(self, node: Any, lock: RLock, note: Callable[[str, str], None]):
        """note: takes the kind and the text of a line for all operators."""
        self._node, self._lock, self._note = node, lock, note
        self.running: dict | None = None
        self.last: dict | None = None
        self.sentences: dict[str, None] = {}
        self._servers: set[bytes] = set()  # who was asked for the running goal's result
        action = "execute_instruction/_action"  # as every client of an action has them
        self.status_topic = node.resolve_topic_name(f"{action}/status")
        self._results = node.create_client(ExecuteInstruction.Impl.GetResultService, f"{action}/get_result")
        node.create_subscription(RunningGoal, "goal", self._on_goal, LATCHED)
        node.create_subscription(String, "task_instruction", self._on_sentence, LATCHED)
        node.create_subscription(ExecuteInstruction.Impl.FeedbackMessage, f"{action}/feedback", self._on_feedback, 10)

    def look(self) -> None:
        """Ask each vla_node that offers the action for the running goal's result: the answer comes when the goal ends, or at
        once from one that was started in the place of another and knows of no such goal."""
        with self._lock:
            goal = self.running
            there = {bytes(info.endpoint_gid) for info in self._node.get_publishers_info_by_topic(self.status_topic)}
            if not goal or not there - self._servers or not self._results.service_is_ready():
                return
            self._servers |= there
        self._ask(goal)

    def _ask(self, goal: dict) -> None:
        request = ExecuteInstruction.Impl.GetResultService.Request()
        request.goal_id.uuid = list(bytes.fromhex(goal["id"]))
        self._results.call_async(request).add_done_callback(lambda done: self._on_result(goal, done.result()))

    def _on_goal(self, m: RunningGoal) -> None:
        goal_id = bytes(m.goal_id.uuid)
        with self._lock:
            before, self.running = self.running, None
        if not any(goal_id):
            if before and not before.get("over"):  # a vla_node that was started anew says so too, and has no result of it
                self._ask(before)
            return
        with self._lock:
            self.running = {"id": goal_id.hex(), "instruction": m.instruction, "step": 0, "elapsed": 0.0, "warnings": []}
            self._servers = set()
            self._remember(m.instruction)
            self._note("goal", f"goal: {m.instruction}")
        self.look()

    def _on_result(self, goal: dict, answer: Any) -> None:
        with self._lock:
            if goal.get("over"):
                return  # told already, by an earlier answer
            goal["over"] = True
            if self.running is goal:
                self.running = None
            if answer.status == GoalStatus.STATUS_UNKNOWN:
                self._ended(goal, "lost", "vla_node was started anew and knows nothing of this goal")
                return
            r, d = answer.result, answer.result.decode_summary
            self._ended(
                goal,
                r.termination_reason,
                r.error_msg,
                steps=r.steps,
                elapsed=finite(r.elapsed_time),
                latency=finite(d.latency_median_ms),
                passes=finite(d.forward_passes_per_action),
                decoder=d.decoder,
            )

    def _ended(self, goal: dict, reason: str, message: str, **figures: Any) -> None:
        self.last = {"instruction": goal["instruction"], "reason": reason, "message": message, **figures}
        self._note("fault" if reason in ("fault", "lost") else "goal", f"{reason}: {goal['instruction']}. {message}".strip())

    def _on_feedback(self, m: Any) -> None:
        with self._lock:
            if self.running and self.running["id"] == bytes(m.goal_id.uuid).hex():
                f = m.feedback
                self.running |= {"step": f.step, "elapsed": finite(f.elapsed_time), "warnings": warnings(f)}

    def _on_sentence(self, m: String) -> None:
        with self._lock:
            self._remember(m.data)

    def _remember(self, sentence: str) -> None:
        if sentence and len(self.sentences) < SENTENCES:
            self.sentences[sentence] = None


def finite(number: float) -> float | None:
    """A number as JSON may have it, to three decimals; None for NaN and infinity."""
    return round(float(number), 3) if math.isfinite(number) else None
