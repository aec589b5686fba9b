# SPDX-License-Identifier: Apache-2.0
"""The trials of a study, one after the other, on nodes that run: each a goal of vla_node, recorded, with its outcome.

What would tell the decoder, its name, its latency, a fault in its own words, is neither printed nor noted in the open.
"""

from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import ParameterValue
from rcl_interfaces.srv import GetParameters, SetParametersAtomically
from rclpy.client import Client
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import QoSProfile
from vla_sd_msgs.action import ExecuteInstruction
from vla_sd_msgs.msg import ArmStatus, DecodeStep
from vla_sd_msgs.srv import ResetScene

from vla_sd_ros.client import GoalRejected, InstructionClient
from vla_sd_ros.demo import RECORDED_TAIL, linger, say, start_recorder, wait
from vla_sd_ros.messages.qos import LATCHED
from vla_sd_ros.nodes.vla_parameters import LIVE
from vla_sd_ros.send import cancel
from vla_sd_ros.supervisor import Supervisor
from vla_sd_ros.trial.keys import Keys
from vla_sd_ros.trial.study import Outcome, Slot, Stopped, Study

SCENE_SETTLES = 0.6  # [s] after a reset: the camera and the arm's pose are of the new scene
MOST_VOID = 3  # unattended trials in a row that do not count, after which something is broken
STEP = (
    "decoder",
    "path",
    "forward_passes",
    "accepted_length",
    "vision_ms",
    "prefill_ms",
    "draft_ms",
    "decode_ms",
    "total_ms",
    "image_to_command_ms",
)  # of what each action took
Code = ExecuteInstruction.Result
LIMITS = {Code.TIME_LIMIT, Code.STEP_LIMIT}
# What a policy brings on itself: to leave these out would favour the decoder that fails in this way.
ITS_OWN = {
    Code.TASK_FAILED,
    Code.INFERENCE_FAILED,
    ArmStatus.COMMAND_STALE,
    ArmStatus.COMMAND_INVALID,
    ArmStatus.ARM_DEVIATES,
    ArmStatus.ARM_NOT_FOLLOWING,
    ArmStatus.JOINT_LIMIT,
    ArmStatus.SINGULARITY,
    ArmStatus.LEAD_OFFSET,
    ArmStatus.ARM_RUNS_AWAY,
    ArmStatus.COMMANDS_CLIPPED,
    ArmStatus.TRAJECTORY_FAILED,
}
NAMES = {
    getattr(kind, name): name
    for kind in (ArmStatus, Code)
    for name in dir(kind)
    if name.isupper() and isinstance(getattr(kind, name), int)
}


class Trials:
    """All that are due, on the nodes of the client's namespace."""

    def __init__(self, study: Study, client: InstructionClient, supervisor: Supervisor, keys: Keys | None):
        """keys: of the operator, who judges; None: task_success does."""
        self._study, self._client, self._supervisor, self._keys = study, client, supervisor, keys
        self._protocol = study.protocol
        self._steps: list[DecodeStep] = []
        self._status: ArmStatus | None = None
        node = client.node
        node.create_subscription(DecodeStep, "decode", self._steps.append, QoSProfile(depth=1000))
        node.create_subscription(ArmStatus, "arm_node/status", self._on_status, LATCHED)
        self._set: Client = node.create_client(SetParametersAtomically, "vla_node/set_parameters_atomically")
        self._get: Client = node.create_client(GetParameters, "vla_node/get_parameters")
        self._change: Client = node.create_client(ChangeState, "vla_node/change_state")
        self._reset: Client = node.create_client(ResetScene, "sim_node/reset")

    def _on_status(self, message: ArmStatus) -> None:
        self._status = message

    def run(self) -> bool:
        """Whether all trials of the study are done; False: the operator left. Raises Stopped, and what the client does."""
        self._complete(self._study.arms.values())
        void = 0
        while slot := self._study.next():
            if void == MOST_VOID and not self._keys:
                raise Stopped(f"{MOST_VOID} trials in a row do not count; mend what ended them")
            say(f"trial {slot.seq} of {slot.total}: {slot.code}, setup {slot.setup}")
            if self._operator_leaves():
                return False
            outcome = self._trial(slot)
            void = void + 1 if outcome.success is None else 0
            said = {True: "success", False: f"failure ({outcome.termination})", None: f"void, to be made again: {outcome.why}"}
            say(f"trial {slot.seq}: {said[outcome.success]} after {outcome.duration:.1f} s")
        return True

    # One trial

    def _trial(self, slot: Slot) -> Outcome:
        """A trial that is cut off here has begun, and has no outcome: Study.begin() finds it."""
        self._prepare(slot)
        workplace, trial = self._study.workplace(), ""
        try:
            with self._recorded(workplace / "episode"):
                before = self._clipped()
                self._steps.clear()
                self._client.start(self._protocol.instruction, self._protocol.time_limit)
                trial = self._study.start(slot)
                said, result = self._watch()
                linger(self._client, self._supervisor, RECORDED_TAIL)
        except GoalRejected:
            if trial:
                self._study.keep(trial, workplace, Outcome(None, "other", 0.0, {"setup": slot.setup}, "GOAL_REFUSED"))
            raise
        after = self._clipped()
        measured = {
            "setup": slot.setup,
            "parameters": slot.parameters,
            "clipped": None if before is None or after is None else max(0, after - before),
            **{name: getattr(result, name) for name in ("error_code", "error_msg", "termination_reason", "elapsed_time")},
            "steps": [_plain(step) for step in self._steps],
        }
        outcome = self._judged(said, result, measured)
        self._study.keep(trial, workplace, outcome)
        return outcome

    @contextmanager
    def _recorded(self, folder: Path) -> Iterator[None]:
        """Record meanwhile; afterwards the bag is whole and no goal is running."""
        start_recorder(self._client, self._supervisor, folder)
        try:
            yield
        finally:
            if self._client.running:
                cancel(self._client)
            self._supervisor.stop(["recorder"])

    def _prepare(self, slot: Slot) -> None:
        self._supervisor.check()
        if self._protocol.simulator:
            from vla_sd_ros.sim.episode import HELD_OUT_STATES

            states = len(HELD_OUT_STATES)
            request = ResetScene.Request(
                initial_state=HELD_OUT_STATES[(slot.setup - 1) % states], seed=(slot.setup - 1) // states, task=-1
            )
            answer = self._call(self._reset, request, "sim_node to reset the scene")
            if not answer.success:
                raise Stopped(f"the scene is not reset: {answer.message}")
            linger(self._client, self._supervisor, SCENE_SETTLES)
        self._use(slot.parameters)

    def _watch(self) -> tuple[str, Any]:
        """The operator's word, if there was one, and the result."""
        said = ""
        if self._keys:
            say("  s: success, f: failure, space: stop the arm")
        while not self._client.is_complete(timeout=0.1):
            self._supervisor.check()
            if self._keys and not said and (said := self._keys.pressed("sf ")):
                cancel(self._client)
        return said.strip(), self._client.result(10.0)

    def _judged(self, said: str, result: Any, measured: dict) -> Outcome:
        if not self._keys:
            return by_task_success(result, measured)
        said = said or self._ask("  s: success, f: failure, v: it does not count", "sfv")
        termination = {"s": "success", "f": "operator_stop", "v": "other"}[said]
        return Outcome(
            {"s": True, "f": False, "v": None}[said], termination, float(result.elapsed_time), measured, "the operator says so"
        )

    # The operator

    def _operator_leaves(self) -> bool:
        return bool(self._keys) and self._ask("  set the scene; space: begin, q: leave the rest for later", " q") == "q"

    def _ask(self, question: str, among: str) -> str:
        assert self._keys  # only an operator is asked
        say(question)
        while not (key := self._keys.pressed(among)):
            self._supervisor.check()
            self._client.spin_until(lambda: False, 0.1)
        return key

    # Parameters of vla_node

    def _complete(self, arms) -> None:
        """Give each arm all parameters that any of them has, as vla_node had them when the study began."""
        names = sorted({name for arm in arms for name in arm.parameters})
        missing = [name for name in names if any(name not in arm.parameters for arm in arms)]
        base = self._study.base()
        if unread := [name for name in missing if name not in base]:
            answer = self._call(self._get, GetParameters.Request(names=unread), "the parameters of vla_node")
            base |= {name: _of(value) for name, value in zip(unread, answer.values, strict=True)}
            if unknown := [name for name in unread if base[name] is None]:
                raise Stopped(f"vla_node has no parameter {unknown[0]!r}")
            self._study.keep_base(base)
        for arm in arms:
            arm.parameters.update({name: base[name] for name in missing if name not in arm.parameters})

    def _use(self, parameters: dict[str, object]) -> None:
        """Let vla_node decide so. What is loaded is loaded anew for each trial, so that a pause tells nothing."""
        live = {name: value for name, value in parameters.items() if not name.startswith("policy.") or name in LIVE}
        if live != parameters:
            self._transition("deactivate")
            self._transition("cleanup")
            self._set_all(parameters)
            self._transition("configure")  # which may take parameters from a bundle
            self._transition("activate")
        self._set_all(live)

    def _set_all(self, parameters: dict[str, Any]) -> None:
        request = SetParametersAtomically.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg() for name, value in parameters.items()]
        )
        answer = self._call(self._set, request, "vla_node to take its parameters").result
        if not answer.successful:
            raise Stopped(f"vla_node refuses what is to be compared: {answer.reason}")

    def _transition(self, label: str) -> None:
        request = ChangeState.Request()
        request.transition.label = label
        if not self._call(self._change, request, f"vla_node to {label}").success:
            raise Stopped(f"vla_node did not {label}; its log says why")

    def _call(self, service, request, what: str):
        wait(self._client, self._supervisor, service.service_is_ready, what)
        answer = service.call_async(request)
        wait(self._client, self._supervisor, answer.done, what)
        return answer.result()

    def _clipped(self) -> int | None:
        """Commands that arm_node has clipped so far; None where nobody tells."""
        return self._status.clipped if self._status else None


def by_task_success(result: Any, measured: dict) -> Outcome:
    """What a goal's own end says of the trial. A fault is named by its code: its sentence may name the decoder."""
    duration, code = float(result.elapsed_time), result.error_code
    if code == Code.NONE:
        return Outcome(True, "success", duration, measured)
    if code in LIMITS:
        return Outcome(False, "timeout", duration, measured)
    if code in ITS_OWN:
        return Outcome(False, "other" if code == Code.TASK_FAILED else "safety_stop", duration, measured)
    return Outcome(None, "other", duration, measured, NAMES.get(code, f"error code {code}"))


def _of(value: ParameterValue) -> object:
    """The value of a parameter, for JSON; None where there is none."""
    plain = parameter_value_to_python(value)
    return plain.tolist() if isinstance(plain, array) else plain


def _plain(step: DecodeStep) -> dict:
    return {name: getattr(step, name) for name in STEP}
