# SPDX-License-Identifier: Apache-2.0
"""The ROS side of the console: one vla_node and its arm_node as plain data, and what an operator asks of them.

Everything is heard from topics and services that anybody may hear and ask, so that a goal is seen, stopped and marked
whoever began it, and a console that comes later shows the same as one that was there before.
"""

import asyncio
import math
import threading
import time
import traceback
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from action_msgs.srv import CancelGoal
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import GetState
from rclpy.client import Client
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from vla_sd_msgs.msg import DecodeStep, TaskSuccess

from vla_sd_ros.client import GoalRejected, InstructionClient
from vla_sd_ros.console import Refused, camera
from vla_sd_ros.console.arm import Arm, silent
from vla_sd_ros.console.asking import ask
from vla_sd_ros.console.camera import Camera
from vla_sd_ros.console.goals import Goals, finite
from vla_sd_ros.console.tables import PATIENCE, Tables
from vla_sd_ros.messages.qos import LATCHED

VLA_SILENT = 3.5  # s without an answer to LOOK_PERIOD's question for its state
CAMERA_PERIOD = 0.1  # s, between two looks at the camera, while a page is open
LOOK_PERIOD = 0.5  # s, between two looks at who is there
SPIN = 0.1  # s of each LOOK_PERIOD, while a goal that was given up may still be taken, and is cancelled then
REFUSAL = 0.3  # s, within which vla_node ends a goal that it does not take
STEPS, EVENTS = 600, 50  # that are kept
STAGES = ("vision", "prefill", "draft", "decode")


class Robot:
    """Call from any thread; what waits for an answer is awaited in an asyncio loop. Refused tells why something was not done.

    Needs rclpy.init() before. namespace: that of vla_node. context: an rclpy context other than the default one.
    """

    def __init__(self, namespace: str = "vla", context: Any = None):
        node = self._node = Node("vla_sd_console", namespace=namespace, context=context)
        self._client = InstructionClient(namespace, "vla_sd_console_goals", context)  # used by the starter's thread alone
        self._starter, self._starting, self._closing = ThreadPoolExecutor(1), False, False
        self._lock = threading.RLock()
        self.namespace = node.get_namespace()
        self.viewers = 0  # pages that are open
        self._heard_at = -math.inf  # when vla_node told its state
        self._said = (0, "")  # level and sentence of vla_node's diagnostics
        self._lifecycle = ""  # vla_node's state
        self._steps: deque[dict] = deque(maxlen=STEPS)
        self._counted = 0
        self._elsewhere = ""  # where else there is a vla_node
        self._events: deque[dict] = deque(maxlen=EVENTS)
        self._camera, self._goals = Camera(node), Goals(node, self._lock, self.note)
        self._tables, self._arm = Tables(node, self._lock), Arm(node, self._lock, self.note)
        self._connect()
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(node)
        self._thread = threading.Thread(target=self._spin, name="ros", daemon=True)
        self._thread.start()

    def _connect(self) -> None:
        node = self._node
        node.create_subscription(DecodeStep, "decode", self._on_step, 50)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 20)
        self._cancels: Client = node.create_client(CancelGoal, "execute_instruction/_action/cancel_goal")
        self._asks_state: Client = node.create_client(GetState, "vla_node/get_state")
        self._marks = node.create_publisher(TaskSuccess, "task_success", LATCHED)
        self._tables.follow("vla", f"{self.namespace.rstrip('/')}/vla_node")
        self._follow_arm(node.resolve_topic_name("arm_node/status"))
        node.create_timer(LOOK_PERIOD, self._look)
        node.create_timer(CAMERA_PERIOD, self._see)

    def close(self) -> None:
        """A goal that runs goes on, unless goal.client_timeout of vla_node says otherwise."""
        self._closing = True
        self._starter.shutdown(cancel_futures=True)
        self._executor.shutdown(timeout_sec=1.0)
        self._thread.join(2.0)
        self._client.close()
        self._node.destroy_node()

    def _spin(self) -> None:
        """Whatever a callback raises, the next message is heard: a page that shows the past would be worse."""
        while not self._closing:
            try:
                self._executor.spin_once(timeout_sec=0.2)
            except ExternalShutdownException:
                return
            except Exception:
                self._node.get_logger().error(traceback.format_exc(), throttle_duration_sec=10.0)

    # What pages show

    def state(self) -> dict:
        """All that changes at once or seldom; values are those of JSON, times are seconds."""
        with self._lock:
            return {
                "namespace": self.namespace,
                "vla": self._vla(),
                "arm": self._arm_state(),
                "camera": self._camera.state(self.viewers > 0),
                "goal": self._goals.running and dict(self._goals.running),
                "last": self._goals.last,
                "starting": self._starting,
                "sentences": list(dict.fromkeys([*self._goals.sentences, *self._tables.sentences])),
                "events": list(self._events),
                "parameters": self._tables.version,
            }

    def tables(self) -> dict[str, list[dict]]:
        """The live parameters of vla_node ("vla") and arm_node ("arm"), as parameters.table() has them."""
        return self._tables.copy()

    def steps(self, since: int) -> list[dict]:
        """The actions decoded after the one with this number, at most STEPS."""
        with self._lock:
            return [step for step in self._steps if step["number"] > since]

    def picture(self) -> tuple[int, bytes]:
        """What the camera saw last, a JPEG, and its number; 0 before the first."""
        return self._camera.picture

    def note(self, kind: str, text: str) -> None:
        """A line for all operators. kind: operator, goal, fault or info."""
        with self._lock:
            self._events.append({"at": time.time(), "kind": kind, "text": text})

    def _vla(self) -> dict:
        level, message = self._said
        problem = silent("vla_node", self.namespace, self._heard_at, VLA_SILENT)
        if self._heard_at == -math.inf:
            problem += self._elsewhere
        return {
            "there": not problem,
            "problem": problem,
            "state": self._lifecycle,
            "level": level,
            "message": message,
            "checkpoint": self._tables.checkpoint,
            "decoder": self._tables.value("vla", "decoder.name"),
        }

    def _arm_state(self) -> dict:
        return self._arm.state(self.namespace) | {"dry_run": self._tables.value("arm", "dry_run") is True}

    # What operators ask for

    async def start(self, instruction: str, time_limit: float = 0.0) -> str:
        """Sends a goal; one at a time, so that two operators do not take the arm from each other."""
        with self._lock:
            if self._goals.running or self._starting:
                raise Refused("a goal runs already: stop it first")
            self._starting = True
        try:
            return await asyncio.get_running_loop().run_in_executor(self._starter, self._start, instruction, time_limit)
        finally:
            self._starting = False

    def _start(self, instruction: str, time_limit: float) -> str:
        try:
            self._client.start(instruction, time_limit, timeout=PATIENCE)
            self._client.is_complete(REFUSAL)
        except (GoalRejected, TimeoutError, ConnectionError, ValueError) as error:
            raise Refused(str(error)) from error
        return f"started: {instruction}"

    async def stop(self) -> str:
        """Cancels whatever goal runs, also one that was sent by somebody else, or of which nothing was heard."""
        answer = await ask(
            self._cancels,
            CancelGoal.Request(),
            PATIENCE,  # the zeros of the request mean every goal
            "no vla_node takes goals here, so none can be stopped: press HOLD",
        )
        return "the goal is being stopped" if answer.goals_canceling else "no goal was running"

    async def hold(self, hold: bool) -> str:
        """arm_node's ~/hold. Where nobody answers it, whatever goal runs is stopped at least."""
        try:
            return await self._arm.hold(hold)
        except Refused as error:
            with suppress(Refused):
                await (self.stop() if hold else asyncio.sleep(0))
            raise Refused(
                f"{error}: the arm was NOT told to {'hold' if hold else 'let go'}{'; use the emergency stop' if hold else ''}"
            ) from error

    async def recover(self) -> str:
        """See Arm.recover."""
        return await self._arm.recover()

    async def mark(self, success: bool) -> str:
        """The operator's word on the goal that runs, which ends it; recorders hear it on the topic task_success."""
        with self._lock:
            goal = self._goals.running
        if not goal:
            raise Refused("no goal is running that could be marked")
        message = TaskSuccess(
            instruction=goal["instruction"],
            state=TaskSuccess.SUCCESS if success else TaskSuccess.FAILURE,
            message="the operator says so",
        )
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._marks.publish(message)
        return f"marked as {'success' if success else 'failure'}"

    async def set_parameter(self, node: str, name: str, value: Any) -> str:
        """node: vla or arm."""
        await self._tables.change(node, name, value)
        return f"{name} is {value}"

    # What is heard, in the thread of the executor

    def _on_step(self, m: DecodeStep) -> None:
        with self._lock:
            self._counted += 1
            self._steps.append({"number": self._counted, **_decoded(m)})

    def _on_diagnostics(self, m: DiagnosticArray) -> None:
        for status in m.status:
            if status.name == f"{self.namespace.strip('/')}/vla_node".strip("/"):
                self._said = int.from_bytes(status.level, "little"), status.message

    # Who is there

    def _look(self) -> None:
        self._goals.look()
        if self._client.unanswered and not self._starting:
            with suppress(RuntimeError):  # the console is closing
                self._starter.submit(self._client.spin_until, lambda: not self._client.unanswered, SPIN)
        if self._heard_at == -math.inf:
            self._look_elsewhere()
        self._find_topics()
        if self._asks_state.service_is_ready():
            self._asks_state.call_async(GetState.Request()).add_done_callback(lambda done: self._on_state(done.result()))
        self._arm.look()
        self._tables.look({"vla": time.monotonic() - self._heard_at < VLA_SILENT, "arm": self._arm.there}.__getitem__)
        if self.viewers:
            self._camera.look()

    def _see(self) -> None:
        if self.viewers:
            self._camera.take()

    def _look_elsewhere(self) -> None:
        end = "/execute_instruction/_action/status"
        there = sorted(
            topic.removesuffix(end).lstrip("/")
            for topic, _ in self._node.get_topic_names_and_types()
            if topic.endswith(end) and topic != self._goals.status_topic and self._node.count_publishers(topic)
        )
        self._elsewhere = "".join(f"; there is one in /{name}: --namespace {name or '/'}" for name in there[:3])

    def _on_state(self, answer: GetState.Response) -> None:
        self._lifecycle, self._heard_at = answer.current_state.label, time.monotonic()

    def _find_topics(self) -> None:
        """The camera and the arm of this vla_node, which may be remapped, are what it hears of their types."""
        try:
            heard = self._node.get_subscriber_names_and_types_by_node("vla_node", self.namespace)
        except Exception:  # NodeNameNonExistentError: it is not there yet
            return
        for topic, types in heard:
            if kind := camera.TYPES.get(types[0]):
                self._camera.follow(topic, kind)
            elif types[0] == "vla_sd_msgs/msg/ArmStatus":
                self._follow_arm(topic)

    def _follow_arm(self, topic: str) -> None:
        if self._arm.follow(topic):
            self._tables.follow("arm", self._arm.name)


def _decoded(m: DecodeStep) -> dict:
    """What pages show of an action's decoding; times are milliseconds."""
    return {
        "step": m.step,
        "decoder": m.decoder,
        "path": m.path,
        "accepted": m.accepted_length,
        "passes": m.forward_passes,
        "threshold": finite(m.threshold),
        "metric": finite(m.fused_metric),
        "stages": [finite(getattr(m, f"{stage}_ms")) for stage in STAGES],
        "total": finite(m.total_ms),
        "late": finite(m.image_to_command_ms),
    }
