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
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from vla_sd_msgs.msg import ArmStatus, DecodeStep, TaskSuccess

from vla_sd_ros.client import GoalRejected, InstructionClient
from vla_sd_ros.console import Refused, camera
from vla_sd_ros.console.asking import ask
from vla_sd_ros.console.camera import Camera
from vla_sd_ros.console.goals import Goals, finite
from vla_sd_ros.console.tables import PATIENCE, Tables
from vla_sd_ros.control.codes import Code
from vla_sd_ros.messages.qos import LATCHED

VLA_SILENT = 3.5        # s without an answer to LOOK_PERIOD's question for its state
ARM_SILENT = 1.0        # s without a status, which comes at 10 Hz
CAMERA_PERIOD = 0.1     # s, between two looks at the camera, while a page is open
LOOK_PERIOD = 0.5       # s, between two looks at who is there
HOLD_PATIENCE = 1.0     # s for that of arm_node to a hold
SPIN = 0.1              # s of each LOOK_PERIOD, while a goal that was given up may still be taken, and is cancelled then
REFUSAL = 0.3           # s, within which vla_node ends a goal that it does not take
RECOVERY = 40.0         # s for a recovery
RECOVERED = (ArmStatus.ROBOT_FAULT, ArmStatus.ARM_RUNS_AWAY)    # what ~/recover of arm_node is for
DRIVERS = ("franka_driver", "wxai_driver")      # by pip, whose own ~/recover brings their robot back
STEPS, EVENTS = 600, 50     # that are kept
GRIPPER = ("unknown", "open", "closed", "moving")
STAGES = ("vision", "prefill", "draft", "decode")


class Robot:
    """Call from any thread; what waits for an answer is awaited in an asyncio loop. Refused tells why something was not done.

    Needs rclpy.init() before. namespace: that of vla_node. context: an rclpy context other than the default one.
    """

    def __init__(self, namespace: str = "vla", context: Any = None):
        node = self._node = Node("vla_sd_console", namespace=namespace, context=context)
        self._client = InstructionClient(namespace, "vla_sd_console_goals", context)     # used by the starter's thread alone
        self._starter, self._starting, self._closing = ThreadPoolExecutor(1), False, False
        self._lock = threading.RLock()
        self.namespace = node.get_namespace()
        self.viewers = 0                                # pages that are open
        self._heard = {"vla": -math.inf, "arm": -math.inf}
        self._said = (0, "")                            # level and sentence of vla_node's diagnostics
        self._states = {"vla": "", "arm": ""}           # of the lifecycle
        self._state_clients: dict[str, Any] = {}
        self._status = ArmStatus()
        self._steps: deque[dict] = deque(maxlen=STEPS)
        self._counted = 0
        self._elsewhere = ""                            # where else there is a vla_node
        self._events: deque[dict] = deque(maxlen=EVENTS)
        self._arm_name, self._arm_topic = "arm_node", ""
        self._hold: Any = None                          # client of arm_node's ~/hold
        self._arm_inputs: list[Any] = []                # subscriptions
        self._recovers: dict[str, Client] = {}          # ~/recover of arm_node and of drivers by pip, by the names of their nodes
        self._robot_fault = ""                          # as a driver by pip tells it
        self._camera, self._goals = Camera(node), Goals(node, self._lock, self.note)
        self._tables = Tables(node, self._lock)
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
        self._state_clients["vla"] = node.create_client(GetState, "vla_node/get_state")
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
                "namespace": self.namespace, "vla": self._vla(), "arm": self._arm(), "camera": self._camera.state(self.viewers > 0),
                "goal": self._goals.running and dict(self._goals.running), "last": self._goals.last, "starting": self._starting,
                "sentences": list(dict.fromkeys([*self._goals.sentences, *self._tables.sentences])),
                "events": list(self._events), "parameters": self._tables.version}

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

    def _there(self, what: str) -> bool:
        return time.monotonic() - self._heard[what] < {"vla": VLA_SILENT, "arm": ARM_SILENT}[what]

    def _silent(self, what: str, name: str) -> str:
        """Why nothing is known of a node, as a sentence; empty where it speaks."""
        if self._there(what):
            return ""
        if self._heard[what] > -math.inf:
            return f"{name} has been silent for {time.monotonic() - self._heard[what]:.0f} s"
        return f"{name} of {self.namespace} has not been heard yet{self._elsewhere if what == 'vla' else ''}"

    def _vla(self) -> dict:
        level, message = self._said
        return {"there": self._there("vla"), "problem": self._silent("vla", "vla_node"), "state": self._states["vla"],
                "level": level, "message": message, "checkpoint": self._tables.checkpoint,
                "decoder": self._tables.value("vla", "decoder.name")}

    def _arm(self) -> dict:
        s, there, lifecycle = self._status, self._there("arm"), self._states["arm"]
        problem = self._silent("arm", "arm_node")
        if problem and lifecycle not in ("", "active"):
            problem = f"arm_node is {lifecycle}, not active: configure and activate it"
        return {"there": there, "problem": problem, "moving": there and s.state == ArmStatus.MOVING, "code": s.code,
                "name": _code(s.code), "message": s.message, "held": there and s.code == ArmStatus.HELD,
                "fault": there and s.code not in (ArmStatus.OK, ArmStatus.NO_COMMAND), "clipped": s.clipped, "refused": s.refused,
                "recover": there and bool(self._robot_fault or s.code in RECOVERED),
                "gripper": GRIPPER[min(s.gripper, 3)], "gripper_message": s.gripper_message,
                "dry_run": self._tables.value("arm", "dry_run") is True}

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
        answer = await ask(self._cancels, CancelGoal.Request(), PATIENCE,   # the zeros of the request mean every goal
                           "no vla_node takes goals here, so none can be stopped: press HOLD")
        return "the goal is being stopped" if answer.goals_canceling else "no goal was running"

    async def hold(self, hold: bool) -> str:
        """arm_node's ~/hold. Where nobody answers it, whatever goal runs is stopped at least."""
        try:
            answer = await ask(self._hold, SetBool.Request(data=hold), HOLD_PATIENCE, f"{self._arm_name} is not there")
        except Refused as error:
            with suppress(Refused):
                await (self.stop() if hold else asyncio.sleep(0))
            raise Refused(f"{error}: the arm was NOT told to {'hold' if hold else 'let go'}"
                          f"{'; use the emergency stop' if hold else ''}") from error
        return answer.message or "the arm is released: the next goal may move it"

    async def recover(self) -> str:
        """~/recover of the driver by pip that tells a fault of its robot, otherwise that of arm_node. It moves no arm."""
        drivers = [name for name in DRIVERS if self._robot_fault and self._recovers[name].service_is_ready()]
        name = drivers[0] if drivers else "arm_node"
        answer = await ask(self._recovers[name], Trigger.Request(), RECOVERY, f"{name} is not there")
        if not answer.success:
            raise Refused(f"{name} did not recover: {answer.message}")
        return answer.message or f"{name} has recovered: the next goal may begin"

    async def mark(self, success: bool) -> str:
        """The operator's word on the goal that runs, which ends it; recorders hear it on the topic task_success."""
        with self._lock:
            goal = self._goals.running
        if not goal:
            raise Refused("no goal is running that could be marked")
        message = TaskSuccess(instruction=goal["instruction"], state=TaskSuccess.SUCCESS if success else TaskSuccess.FAILURE,
                              message="the operator says so")
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

    def _on_arm(self, m: ArmStatus) -> None:
        with self._lock:
            before, self._status = self._status, m
            self._heard["arm"] = time.monotonic()
            if m.code != before.code and m.code > ArmStatus.NO_COMMAND:
                self.note("fault", f"arm: {m.message or _code(m.code)}")

    def _on_robot_fault(self, m: String) -> None:
        self._robot_fault = m.data

    # Who is there

    def _look(self) -> None:
        self._goals.look()
        if self._client.unanswered and not self._starting:
            with suppress(RuntimeError):                # the console is closing
                self._starter.submit(self._client.spin_until, lambda: not self._client.unanswered, SPIN)
        if self._heard["vla"] == -math.inf:
            self._look_elsewhere()
        self._find_topics()
        for what, client in self._state_clients.items():
            if client.service_is_ready():
                client.call_async(GetState.Request()).add_done_callback(lambda done, what=what: self._on_state(what, done.result()))
        self._tables.look(self._there)
        if self.viewers:
            self._camera.look()

    def _see(self) -> None:
        if self.viewers:
            self._camera.take()

    def _look_elsewhere(self) -> None:
        end = "/execute_instruction/_action/status"
        there = sorted(topic.removesuffix(end).lstrip("/") for topic, _ in self._node.get_topic_names_and_types()
                       if topic.endswith(end) and topic != self._goals.status_topic and self._node.count_publishers(topic))
        self._elsewhere = "".join(f"; there is one in /{name}: --namespace {name or '/'}" for name in there[:3])

    def _on_state(self, what: str, answer: GetState.Response) -> None:
        self._states[what] = answer.current_state.label
        if what == "vla":
            self._heard["vla"] = time.monotonic()

    def _find_topics(self) -> None:
        """The camera and the arm of this vla_node, which may be remapped, are what it hears of their types."""
        try:
            heard = self._node.get_subscriber_names_and_types_by_node("vla_node", self.namespace)
        except Exception:                               # NodeNameNonExistentError: it is not there yet
            return
        for topic, types in heard:
            if kind := camera.TYPES.get(types[0]):
                self._camera.follow(topic, kind)
            elif types[0] == "vla_sd_msgs/msg/ArmStatus":
                self._follow_arm(topic)

    def _follow_arm(self, topic: str) -> None:
        """Hear the arm_node that publishes its status there, and ask it."""
        if topic == self._arm_topic:
            return
        name = topic.rpartition("/")[0]
        space = name.rpartition("/")[0]
        for heard in self._arm_inputs:
            self._node.destroy_subscription(heard)
        if self._hold:
            for client in (self._hold, self._state_clients["arm"], *self._recovers.values()):
                self._node.destroy_client(client)
        self._arm_topic, self._arm_name, self._robot_fault = topic, name, ""
        self._arm_inputs = [self._node.create_subscription(ArmStatus, topic, self._on_arm, LATCHED),
                            self._node.create_subscription(String, f"{space}/robot_fault", self._on_robot_fault, LATCHED)]
        self._recovers = {"arm_node": self._node.create_client(Trigger, f"{name}/recover")} | {
            driver: self._node.create_client(Trigger, f"{space}/{driver}/recover") for driver in DRIVERS}
        self._hold = self._node.create_client(SetBool, f"{name}/hold")
        self._state_clients["arm"] = self._node.create_client(GetState, f"{name}/get_state")
        self._tables.follow("arm", name)


def _decoded(m: DecodeStep) -> dict:
    """What pages show of an action's decoding; times are milliseconds."""
    return {"step": m.step, "decoder": m.decoder, "path": m.path, "accepted": m.accepted_length, "passes": m.forward_passes,
            "threshold": finite(m.threshold), "metric": finite(m.fused_metric),
            "stages": [finite(getattr(m, f"{stage}_ms")) for stage in STAGES], "total": finite(m.total_ms),
            "late": finite(m.image_to_command_ms)}


def _code(number: int) -> str:
    """The name of an ArmStatus code; of one that is newer than this console, the number."""
    return Code(number).name if number in Code._value2member_map_ else str(number)
