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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import cv2
import numpy as np
import simplejpeg
from action_msgs.msg import GoalStatus
from action_msgs.srv import CancelGoal
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import GetState
from rcl_interfaces.msg import ParameterEvent
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter_client import AsyncParameterClient
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String
from std_srvs.srv import SetBool
from vla_sd_msgs.action import ExecuteInstruction
from vla_sd_msgs.msg import ArmStatus, DecodeStep, RunningGoal, TaskSuccess

from vla_sd_ros import instructions
from vla_sd_ros.client import GoalRejected, InstructionClient
from vla_sd_ros.console import Refused, parameters
from vla_sd_ros.control.codes import Code
from vla_sd_ros.messages.images import compressed_to_rgb, to_rgb
from vla_sd_ros.messages.qos import LATCHED
from vla_sd_ros.nodes.matching import MatchedSubscription
from vla_sd_ros.nodes.polling import PolledOnly
from vla_sd_ros.send import warnings

VLA_SILENT = 3.5        # s without an answer to LOOK_PERIOD's question for its state
ARM_SILENT = 1.0        # s without a status, which comes at 10 Hz
CAMERA_PERIOD = 0.1     # s, between two looks at the camera, while a page is open
CAMERA_SILENT = 2.0     # s without an image
CAMERA_SIDE = 640       # pixels, the longer side of the picture that pages get
LOOK_PERIOD = 0.5       # s, between two looks at who is there
PATIENCE = 3.0          # s for an answer
HOLD_PATIENCE = 1.0     # s for that of arm_node to a hold
REFUSAL = 0.3           # s, within which vla_node ends a goal that it does not take
STEPS, SENTENCES, EVENTS = 600, 50, 50      # that are kept
GRIPPER = ("unknown", "open", "closed", "moving")
CAMERA_TYPES = {"sensor_msgs/msg/Image": Image, "sensor_msgs/msg/CompressedImage": CompressedImage}
STAGES = ("vision", "prefill", "draft", "decode")


class Robot:
    """Call from any thread; what waits for an answer is awaited in an asyncio loop. Refused tells why something was not done.

    Needs rclpy.init() before. namespace: that of vla_node. context: an rclpy context other than the default one.
    """

    def __init__(self, namespace: str = "vla", context: Any = None):
        node = self._node = Node("vla_sd_console", namespace=namespace, context=context)
        self._goals = InstructionClient(namespace, "vla_sd_console_goals", context)     # used by the starter's thread alone
        self._starter, self._starting = ThreadPoolExecutor(1), False
        self._lock = threading.RLock()
        self.namespace = node.get_namespace()
        self._closing = False
        self.viewers = 0                                # pages that are open
        self._heard = {"vla": -math.inf, "arm": -math.inf, "camera": -math.inf}
        self._said = (0, "")                            # level and sentence of vla_node's diagnostics
        self._states = {"vla": "", "arm": ""}           # of the lifecycle
        self._state_clients: dict[str, Any] = {}
        self._status = ArmStatus()
        self._goal: dict | None = None
        self._last: dict | None = None
        self._servers: set[bytes] = set()               # who was asked for the running goal's result
        self._steps: deque[dict] = deque(maxlen=STEPS)
        self._counted = 0
        self._sentences: dict[str, None] = {}           # of the scene, and of goals, in the order in which they came
        self._known: list[str] = []                     # of the policy
        self._elsewhere = ""                            # where else there is a vla_node
        self._checkpoint = ""
        self._events: deque[dict] = deque(maxlen=EVENTS)
        self._tables: dict[str, list[dict]] = {"vla": [], "arm": []}
        self._tables_version = 0
        self._picture: tuple[int, bytes] = (0, b"")
        self._camera: MatchedSubscription | None = None
        self._camera_problem = ""
        self._arm_name, self._arm_topic, self._hold, self._arm_status = "arm_node", "", None, None
        self._clients: dict[str, AsyncParameterClient] = {}
        self._asking: dict[str, float] = {}             # since when for the parameters of each
        self._connect()
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(node)
        self._thread = threading.Thread(target=self._spin, name="ros", daemon=True)
        self._thread.start()

    def _connect(self) -> None:
        node = self._node
        node.create_subscription(DecodeStep, "decode", self._on_step, 50)
        node.create_subscription(RunningGoal, "goal", self._on_goal, LATCHED)
        node.create_subscription(String, "task_instruction", self._on_sentence, LATCHED)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 20)
        node.create_subscription(ParameterEvent, "/parameter_events", self._on_parameters, QoSProfile(depth=100))
        action = "execute_instruction/_action"          # as every client of an action has them
        node.create_subscription(ExecuteInstruction.Impl.FeedbackMessage, f"{action}/feedback", self._on_feedback, 10)
        self._results = node.create_client(ExecuteInstruction.Impl.GetResultService, f"{action}/get_result")
        self._cancels = node.create_client(CancelGoal, f"{action}/cancel_goal")
        self._status_topic = node.resolve_topic_name(f"{action}/status")
        self._state_clients["vla"] = node.create_client(GetState, "vla_node/get_state")
        self._marks = node.create_publisher(TaskSuccess, "task_success", LATCHED)
        self._clients["vla"] = AsyncParameterClient(node, "vla_node")
        self._follow_arm(node.resolve_topic_name("arm_node/status"))
        node.create_timer(LOOK_PERIOD, self._look)
        node.create_timer(CAMERA_PERIOD, self._see)

    def close(self) -> None:
        """A goal that runs goes on, unless goal.client_timeout of vla_node says otherwise."""
        self._closing = True
        self._starter.shutdown(cancel_futures=True)
        self._executor.shutdown(timeout_sec=1.0)
        self._thread.join(2.0)
        self._goals.close()
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
                "namespace": self.namespace, "vla": self._vla(), "arm": self._arm(), "camera": self._camera_state(),
                "goal": self._goal and dict(self._goal),
                "last": self._last, "starting": self._starting, "sentences": list(dict.fromkeys([*self._sentences, *self._known])),
                "events": list(self._events), "parameters": self._tables_version}

    def tables(self) -> dict[str, list[dict]]:
        """The live parameters of vla_node ("vla") and arm_node ("arm"), as parameters.table() has them."""
        with self._lock:
            return {node: [dict(known) for known in table] for node, table in self._tables.items()}

    def steps(self, since: int) -> list[dict]:
        """The actions decoded after the one with this number, at most STEPS."""
        with self._lock:
            return [step for step in self._steps if step["number"] > since]

    def picture(self) -> tuple[int, bytes]:
        """What the camera saw last, a JPEG, and its number; 0 before the first."""
        return self._picture

    def note(self, kind: str, text: str) -> None:
        """A line for all operators. kind: operator, goal, fault or info."""
        with self._lock:
            self._events.append({"at": time.time(), "kind": kind, "text": text})

    def _there(self, what: str) -> bool:
        return time.monotonic() - self._heard[what] < {"vla": VLA_SILENT, "arm": ARM_SILENT, "camera": CAMERA_SILENT}[what]

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
                "level": level, "message": message, "checkpoint": self._checkpoint, "decoder": self._value("vla", "decoder.name")}

    def _arm(self) -> dict:
        s, there, lifecycle = self._status, self._there("arm"), self._states["arm"]
        problem = self._silent("arm", "arm_node")
        if problem and lifecycle not in ("", "active"):
            problem = f"arm_node is {lifecycle}, not active: configure and activate it"
        return {"there": there, "problem": problem, "moving": there and s.state == ArmStatus.MOVING, "code": s.code,
                "name": _code(s.code), "message": s.message, "held": there and s.code == ArmStatus.HELD,
                "fault": there and s.code not in (ArmStatus.OK, ArmStatus.NO_COMMAND), "clipped": s.clipped, "refused": s.refused,
                "gripper": GRIPPER[min(s.gripper, 3)], "gripper_message": s.gripper_message,
                "dry_run": self._value("arm", "dry_run") is True}

    def _value(self, node: str, name: str) -> Any:
        """Of a live parameter; empty where it is not known."""
        return next((known["value"] for known in self._tables[node] if known["name"] == name), "")

    def _camera_state(self) -> dict:
        there = self._there("camera")
        silent = self._camera.why_silent() if self._camera and self.viewers else ""
        return {"there": there, "topic": self._camera.topic if self._camera else "",
                "problem": self._camera_problem or ("" if there else silent or "no image comes")}

    # What operators ask for

    async def start(self, instruction: str, time_limit: float = 0.0) -> str:
        """Sends a goal; one at a time, so that two operators do not take the arm from each other."""
        with self._lock:
            if self._goal or self._starting:
                raise Refused("a goal runs already: stop it first")
            self._starting = True
        try:
            return await asyncio.get_running_loop().run_in_executor(self._starter, self._start, instruction, time_limit)
        finally:
            self._starting = False

    def _start(self, instruction: str, time_limit: float) -> str:
        try:
            self._goals.start(instruction, time_limit, timeout=PATIENCE)
            self._goals.is_complete(REFUSAL)
        except (GoalRejected, TimeoutError, ConnectionError, ValueError) as error:
            raise Refused(str(error)) from error
        return f"started: {instruction}"

    async def stop(self) -> str:
        """Cancels whatever goal runs, also one that was sent by somebody else, or of which nothing was heard."""
        answer = await self._ask(self._cancels, CancelGoal.Request(), PATIENCE, "no vla_node takes goals here, so none can be "
                                 "stopped: press HOLD")      # the zeros of the request mean every goal
        return "the goal is being stopped" if answer.goals_canceling else "no goal was running"

    async def hold(self, hold: bool) -> str:
        """arm_node's ~/hold. Where nobody answers it, whatever goal runs is stopped at least."""
        try:
            answer = await self._ask(self._hold, SetBool.Request(data=hold), HOLD_PATIENCE,
                                     f"{self._arm_name} is not there")
        except Refused as error:
            with suppress(Refused):
                await (self.stop() if hold else asyncio.sleep(0))
            raise Refused(f"{error}: the arm was NOT told to {'hold' if hold else 'let go'}"
                          f"{'; use the emergency stop' if hold else ''}") from error
        return answer.message or "the arm is released: the next goal may move it"

    async def mark(self, success: bool) -> str:
        """The operator's word on the goal that runs, which ends it; recorders hear it on the topic task_success."""
        with self._lock:
            goal = self._goal
        if not goal:
            raise Refused("no goal is running that could be marked")
        message = TaskSuccess(instruction=goal["instruction"], state=TaskSuccess.SUCCESS if success else TaskSuccess.FAILURE,
                              message="the operator says so")
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._marks.publish(message)
        return f"marked as {'success' if success else 'failure'}"

    async def set_parameter(self, node: str, name: str, value: Any) -> str:
        """node: vla or arm."""
        known = next((known for known in self.tables().get(node, ()) if known["name"] == name), None)
        if not known:
            raise Refused(f"there is no live parameter {name[:80]!r} of {node[:20]!r}")
        message, client = parameters.message(known, value), self._clients[node]
        answer = await self._answer(lambda: client.set_parameters([message]), client.services_are_ready(), PATIENCE,
                                    "the node is not there")
        if not answer.results[0].successful:
            raise Refused(answer.results[0].reason or f"{name} was refused")
        return f"{name} is {value}"

    async def _ask(self, client: Any, request: Any, patience: float, nobody: str) -> Any:
        return await self._answer(lambda: client.call_async(request), client.service_is_ready(), patience, nobody)

    async def _answer(self, call: Callable[[], Any], ready: bool, patience: float, nobody: str) -> Any:
        """What a service answers within a time [s]. The ROS thread has it first, and hands it to the loop of the caller."""
        if not ready:
            raise Refused(nobody)
        loop = asyncio.get_running_loop()
        answer = loop.create_future()

        def deliver(done: Any) -> None:
            with suppress(RuntimeError):                # the loop has ended
                loop.call_soon_threadsafe(lambda: answer.done() or answer.set_result(done.result()))

        call().add_done_callback(deliver)
        try:
            async with asyncio.timeout(patience):
                return await answer
        except TimeoutError as error:
            raise Refused(f"no answer came within {patience:g} s") from error

    # What is heard, in the thread of the executor

    def _on_step(self, m: DecodeStep) -> None:
        with self._lock:
            self._counted += 1
            self._steps.append({
                "number": self._counted, "step": m.step, "decoder": m.decoder, "path": m.path, "accepted": m.accepted_length,
                "passes": m.forward_passes, "threshold": _finite(m.threshold), "metric": _finite(m.fused_metric),
                "stages": [_finite(getattr(m, f"{stage}_ms")) for stage in STAGES], "total": _finite(m.total_ms),
                "late": _finite(m.image_to_command_ms)})

    def _on_goal(self, m: RunningGoal) -> None:
        goal_id = bytes(m.goal_id.uuid)
        with self._lock:
            if not any(goal_id):
                self._goal = None
                return
            self._goal = {"id": goal_id.hex(), "instruction": m.instruction, "step": 0, "elapsed": 0.0, "warnings": []}
            self._servers = set()
            self._remember(m.instruction)
            self.note("goal", f"goal: {m.instruction}")
        self._ask_for_result()

    def _ask_for_result(self) -> None:
        """Of the goal that runs, of each vla_node that offers the action: the answer comes when it ends, or at once from one
        that was started in the place of another and knows of no such goal."""
        with self._lock:
            goal = self._goal
            there = {bytes(info.endpoint_gid) for info in self._node.get_publishers_info_by_topic(self._status_topic)}
            if not goal or not there - self._servers or not self._results.service_is_ready():
                return
            self._servers |= there
        request = ExecuteInstruction.Impl.GetResultService.Request()
        request.goal_id.uuid = list(bytes.fromhex(goal["id"]))
        self._results.call_async(request).add_done_callback(lambda done: self._on_result(goal, done.result()))

    def _on_result(self, goal: dict, answer: Any) -> None:
        with self._lock:
            if goal.get("over"):
                return                                  # told already, by an earlier answer
            goal["over"] = True
            if self._goal is goal:
                self._goal = None
            if answer.status == GoalStatus.STATUS_UNKNOWN:
                self._ended(goal, "lost", "vla_node was started anew and knows nothing of this goal")
                return
            r, d = answer.result, answer.result.decode_summary
            self._ended(goal, r.termination_reason, r.error_msg, steps=r.steps, elapsed=_finite(r.elapsed_time),
                        latency=_finite(d.latency_median_ms), passes=_finite(d.forward_passes_per_action), decoder=d.decoder)

    def _ended(self, goal: dict, reason: str, message: str, **figures: Any) -> None:
        self._last = {"instruction": goal["instruction"], "reason": reason, "message": message, **figures}
        self.note("fault" if reason in ("fault", "lost") else "goal", f"{reason}: {goal['instruction']}. {message}".strip())

    def _on_feedback(self, m: Any) -> None:
        with self._lock:
            if self._goal and self._goal["id"] == bytes(m.goal_id.uuid).hex():
                f = m.feedback
                self._goal |= {"step": f.step, "elapsed": _finite(f.elapsed_time), "warnings": warnings(f)}

    def _on_sentence(self, m: String) -> None:
        with self._lock:
            self._remember(m.data)

    def _remember(self, sentence: str) -> None:
        if sentence and len(self._sentences) < SENTENCES:
            self._sentences[sentence] = None

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

    # Who is there

    def _look(self) -> None:
        self._ask_for_result()
        if self._heard["vla"] == -math.inf:
            self._look_elsewhere()
        self._find_topics()
        for what, client in self._state_clients.items():
            if client.service_is_ready():
                client.call_async(GetState.Request()).add_done_callback(lambda done, what=what: self._on_state(what, done.result()))
        for what, client in list(self._clients.items()):
            silent = not self._there("vla" if what == "vla" else "arm") and not client.services_are_ready()
            if silent:
                self._take_table(what, [])
            elif not self._tables[what] and time.monotonic() - self._asking.get(what, -math.inf) > PATIENCE:
                self._asking[what] = time.monotonic()
                self._executor.create_task(self._fetch, what, client)
        if self._camera and self.viewers:
            self._camera.look()

    def _look_elsewhere(self) -> None:
        end = "/execute_instruction/_action/status"
        there = sorted(topic.removesuffix(end).lstrip("/") for topic, _ in self._node.get_topic_names_and_types()
                       if topic.endswith(end) and topic != self._status_topic and self._node.count_publishers(topic))
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
            if (kind := CAMERA_TYPES.get(types[0])) and (not self._camera or self._camera.topic != topic):
                if self._camera:
                    self._camera.close()
                self._camera = MatchedSubscription(self._node, kind, topic, callback_group=PolledOnly())
                self._camera_kind = kind
            elif types[0] == "vla_sd_msgs/msg/ArmStatus":
                self._follow_arm(topic)

    def _follow_arm(self, topic: str) -> None:
        """Hear the arm_node that publishes its status there, and ask it."""
        if topic == self._arm_topic:
            return
        name = topic.rpartition("/")[0]
        if self._arm_status:
            self._node.destroy_subscription(self._arm_status)
            self._node.destroy_client(self._hold)
            self._node.destroy_client(self._state_clients["arm"])
        self._arm_topic, self._arm_name = topic, name
        self._arm_status = self._node.create_subscription(ArmStatus, topic, self._on_arm, LATCHED)
        self._hold = self._node.create_client(SetBool, f"{name}/hold")
        self._state_clients["arm"] = self._node.create_client(GetState, f"{name}/get_state")
        self._clients["arm"] = AsyncParameterClient(self._node, name)
        self._take_table("arm", [])

    async def _fetch(self, what: str, client: AsyncParameterClient) -> None:
        """All live parameters of a node; and of vla_node the sentences that its policy knows."""
        names = list((await client.list_parameters()).result.names)
        described, values = await client.describe_parameters(names), await client.get_parameters(names)
        if len(described.descriptors) != len(values.values):
            return
        self._take_table(what, parameters.table(described.descriptors, values.values))
        given = dict(zip(names, map(parameters.plain, values.values)))
        if what == "vla":
            remote = given.get("policy.remote", "")
            self._checkpoint = remote or str(given.get("policy.checkpoint", ""))
            self._known = [] if remote else instructions.of(self._checkpoint)

    def _take_table(self, what: str, table: list[dict]) -> None:
        with self._lock:
            if table != self._tables[what]:
                self._tables[what] = table
                self._tables_version += 1

    def _on_parameters(self, m: ParameterEvent) -> None:
        vla = f"{self.namespace.rstrip('/')}/vla_node"
        what = {vla: "vla", self._arm_name: "arm"}.get(m.node)
        if not what:
            return
        changed = {p.name: parameters.plain(p.value) for p in [*m.new_parameters, *m.changed_parameters]}
        with self._lock:
            self._take_table(what, [known | {"value": changed.get(known["name"], known["value"])}
                                    for known in self._tables[what]])

    # The camera

    def _see(self) -> None:
        """Takes the newest image while somebody looks."""
        camera, taken = self._camera, None
        if not camera or not self.viewers:
            return
        while newer := camera.take():
            taken = newer
        if not taken:
            return
        self._heard["camera"] = time.monotonic()
        try:
            pixels = (compressed_to_rgb if self._camera_kind is CompressedImage else to_rgb)(taken[0])
            self._picture, self._camera_problem = (self._picture[0] + 1, _jpeg(pixels)), ""
        except ValueError as error:
            self._camera_problem = str(error)


def _jpeg(pixels: np.ndarray) -> bytes:
    """Pixels, uint8 (height, width, 3), as a JPEG of at most CAMERA_SIDE on a side."""
    shrink = CAMERA_SIDE / max(pixels.shape[:2])
    if shrink < 1.0:
        pixels = cv2.resize(pixels, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=85)


def _finite(number: float) -> float | None:
    return round(float(number), 3) if math.isfinite(number) else None


def _code(number: int) -> str:
    """The name of an ArmStatus code; of one that is newer than this console, the number."""
    return Code(number).name if number in Code._value2member_map_ else str(number)
