# SPDX-License-Identifier: Apache-2.0
"""The goals of the action server `execute_instruction`: accepted, watched, ended, answered.

Each is accepted, so that every client gets its answer where answers are: one that cannot begin is aborted at once, with a
code and a sentence in its result. One of the others commands the arm. Whoever ends a goal first wins (`end`), under the one
lock that guards every command: after a hold command of an ended goal no motion of that goal can follow.
"""

import functools
import inspect
import math
import threading
import time
import traceback
from dataclasses import dataclass, field
from typing import Any

from rclpy.action import CancelResponse
from std_msgs.msg import Empty, Header
from vla_sd_msgs.action import ExecuteInstruction
from vla_sd_msgs.msg import ArmStatus, RunningGoal, TaskSuccess

from vla_sd_ros.instruction import normalized, objection
from vla_sd_ros.messages import decisions
from vla_sd_ros.nodes.inputs import Inputs, NodeClock
from vla_sd_ros.nodes.process import sentence
from vla_sd_ros.nodes.vla_parameters import MAX_STEP_LIMIT, MAX_TIME_LIMIT, goal_limits
from vla_sd_ros.watching.goal import (
    CANCELED,
    DEACTIVATED,
    PREEMPTED,
    SCENE_RESET,
    SUCCESS,
    ClientWatch,
    Ending,
    GoalCode,
    GoalWatch,
    Situation,
    refused,
    task_failed,
)
from vla_sd_ros.watching.picture import PictureWatch

SUPERVISION_PERIOD = 0.02  # s, between two looks at a running goal
FEEDBACK = "execute_instruction/_action/feedback"
CLIENT_PERIOD = 0.2  # s, between two looks at whether its client is there


@dataclass
class Run:
    """One accepted goal, until its result is sent."""

    handle: Any
    accepted: float  # s, node clock
    accepted_wall: int  # ns, wall clock, as the middleware stamps messages
    began: float  # s, steady
    watch: GoalWatch = field(default_factory=GoalWatch)
    picture: PictureWatch = field(default_factory=PictureWatch)
    client: ClientWatch = field(default_factory=ClientWatch)
    client_seen: float = -math.inf  # s, steady: the last look at it
    client_gone: float = 0.0  # s, as of that look
    decisions: list = field(default_factory=list)
    record: Any = None  # of its brain; made with the first step
    last_step: float = -math.inf  # s, steady
    holding: bool = False
    why: str = ""  # it holds
    unknown_words: list[str] = field(default_factory=list)
    not_judged: str = ""  # why nobody can tell whether it succeeded
    ending: Ending | None = None
    over: threading.Event = field(default_factory=threading.Event)
    answered: threading.Event = field(default_factory=threading.Event)

    @property
    def goal(self) -> ExecuteInstruction.Goal:
        """What was asked for: the instruction and its limits."""
        return self.handle.request

    @property
    def goal_id(self):
        """The UUID that the action server and arm_node know the goal by."""
        return self.handle.goal_id


class Goals:
    """All goals of one node. `lock` guards the running one and every command; `news` tells of a new goal, or an end."""

    def __init__(self, node: Any, clock: NodeClock, inputs: Inputs, commands: Any, announcements: Any):
        """node: with `values`, `state`, `active`, `brain`, a name and a logger. commands: a publisher of EndEffectorCommand;
        announcements: of RunningGoal."""
        self._node, self._clock, self._inputs = node, clock, inputs
        self._commands, self._announcements = commands, announcements
        self.lock = threading.RLock()
        self.news = threading.Condition(self.lock)
        self.running: Run | None = None  # the goal that commands the arm

    # Beginning, preemption, cancel: callbacks of the action server

    def objection(self, goal: ExecuteInstruction.Goal) -> str:
        """Why the goal cannot begin, as a sentence; empty when it can."""
        node = self._node
        if node.state == "configuring":
            return f"{node.get_name()} is still loading the model; send the goal when it is active."
        if not node.active:
            return f"{node.get_name()} is {node.state}, not active; configure and activate it first."
        if wrong := objection(goal.instruction):
            return f"the instruction {wrong}; say in words what the arm shall do."
        if not 0.0 <= goal.time_limit <= MAX_TIME_LIMIT:
            return (
                f"time_limit is {goal.time_limit:g} s; it must lie in 0 .. {MAX_TIME_LIMIT:g} s, where 0 means the node's "
                "parameter goal.time_limit."
            )
        if goal.step_limit > MAX_STEP_LIMIT:
            return (
                f"step_limit is {goal.step_limit}; it must lie in 0 .. {MAX_STEP_LIMIT}, where 0 means the node's parameter "
                "goal.step_limit."
            )
        if held := self._inputs.held():
            return f"the arm is held: {held}; call ~/hold of arm_node with data: false first."
        return self._inputs.camera_problem() or self._unfit(goal.instruction)

    def _unfit(self, instruction: str) -> str:
        """Why the policy cannot take an instruction, as a sentence."""
        brain = self._node.brain
        if not brain:
            return ""
        unknown = brain.unknown_words(instruction) if self._node.values["goal.unknown_words"] == "reject" else []
        if unknown:
            return (
                f"the policy was never trained on these words: {', '.join(unknown)}; say it in other words, or set "
                "goal.unknown_words to warn."
            )
        return brain.too_long(instruction)

    def on_accepted(self, handle: Any) -> None:
        """Begin an accepted goal, which ends the running one as preempted; refuse it where `objection` has one."""
        accepted = Run(handle, accepted=self._clock.now(), accepted_wall=self._clock.wall(), began=self._clock.steady())
        brain, log = self._node.brain, self._node.get_logger()
        if wrong := self.objection(accepted.goal):
            log.warning(f"The goal was refused: {wrong}")
            accepted.ending = refused(wrong)
            handle.execute(functools.partial(self._refuse, accepted, accepted.ending))
            return
        accepted.unknown_words = brain.unknown_words(accepted.goal.instruction) if brain else []
        with self.news:
            if self.running:
                self.end(self.running, PREEMPTED)
            self.running = accepted
            self._announce(accepted)
            if not self._node.active:  # deactivated meanwhile
                self.end(accepted, DEACTIVATED)
            self.news.notify_all()
        log.info(f"New goal: {accepted.goal.instruction!r}")
        if accepted.unknown_words:
            log.warning(f"The policy was never trained on these words: {', '.join(accepted.unknown_words)}")
        handle.execute(functools.partial(self._execute, accepted))

    def on_cancel(self, handle: Any) -> CancelResponse:
        """End the goal as canceled; reject the request where it is over already."""
        with self.lock:
            if self.running is None or self.running.handle != handle:
                return CancelResponse.REJECT  # it is over already
            self.end(self.running, CANCELED)
        return CancelResponse.ACCEPT

    # Supervision

    def supervise(self, run: Run) -> None:
        """One look at the goal: holds the arm, lets it go on, or ends the goal."""
        with self.lock:
            if run.ending:
                return
            self._inputs.poll()
            verdict = run.watch.check(self._situation(run), goal_limits(run.goal, self._node.values))
            if verdict.ending:
                self.end(run, verdict.ending)
            elif verdict.hold and not run.holding:
                self._hold(run)
                self._node.get_logger().warning(verdict.why)
            run.holding, run.why = verdict.hold, verdict.why
            if run.holding and run.record is not None:
                run.record.interrupt()

    def _situation(self, run: Run) -> Situation:
        clock, steady, inputs, arm = self._clock.now(), self._clock.steady(), self._inputs, self._inputs.arm.sample
        status = arm.message if arm else ArmStatus()
        return Situation(
            steady=steady,
            elapsed=clock - run.accepted,
            steps=len(run.decisions),
            since_step=steady - run.last_step,
            image_age=inputs.images.age(clock, steady),
            joint_states_age=inputs.joint_states.age(clock, steady),
            arm_age=steady - arm.received if arm else math.inf,
            arm_code=status.code,
            arm_message=status.message,
            image_unchanged=run.picture.unchanged(steady),
            image_contrast=run.picture.contrast,
            client_gone=self._client_gone(run, steady),
            image_unread=run.picture.unread(steady),
            image_problem=run.picture.problem,
            image_advice=inputs.image_advice(),
        )

    def _client_gone(self, run: Run, steady: float) -> float:
        """For how long the goal's client has been gone [s]; looked at now and again, where somebody wants to know."""
        if self._node.values["goal.client_timeout"] and steady - run.client_seen > CLIENT_PERIOD:
            there = {bytes(info.endpoint_gid) for info in self._node.get_subscriptions_info_by_topic(FEEDBACK)}
            run.client_seen = steady
            run.client_gone = run.client.gone(there, steady - run.began, steady)
        return run.client_gone

    # Endings

    def on_success(self, message: TaskSuccess, info: dict) -> None:
        """Ends the goal, unless the message is of another sentence, or a latched one from before the goal."""
        with self.lock:
            published, run = info["source_timestamp"] or self._clock.wall(), self.running
            if run is None or published <= run.accepted_wall or not _speaks_of(message, run.goal.instruction):
                return
            run.not_judged = message.message if message.state == TaskSuccess.NOT_JUDGED else ""
            if message.state == TaskSuccess.SUCCESS:
                self.end(run, SUCCESS)
            elif message.state == TaskSuccess.FAILURE:
                self.end(run, task_failed(message.message))
            elif run.not_judged:
                self._node.get_logger().warning(f"Nobody can tell whether this goal succeeds: {run.not_judged}")

    def on_scene_reset(self, message: Empty) -> None:
        """The simulator is about to put arm and objects elsewhere: what the goal wanted is no longer there."""
        self.end_running(SCENE_RESET)

    def end_running(self, ending: Ending) -> Run | None:
        """End the goal that commands the arm, if there is one; returns it."""
        with self.news:
            run = self.running
            if run:
                self.end(run, ending)
            self.news.notify_all()
        return run

    def end(self, run: Run, ending: Ending) -> None:
        """Ends the goal, if nobody did before: the arm holds at once, except where a newer goal moves it on."""
        with self.lock:
            if run.ending:
                return
            run.ending = ending
            if ending is not PREEMPTED:
                self._hold(run)
            if self.running is run:
                self.running = None
                self._announce(None)
            run.over.set()

    def _hold(self, run: Run) -> None:
        header = Header(stamp=self._clock.stamp(), frame_id=self._node.values["base_frame"])
        self._commands.publish(decisions.hold(run.goal_id, len(run.decisions), header))

    def _announce(self, run: Run | None) -> None:
        """Tells who judges success which goal is running."""
        message = RunningGoal(goal_id=run.goal_id, instruction=run.goal.instruction) if run else RunningGoal()
        message.header.stamp = self._clock.stamp()
        self._announcements.publish(message)

    # The answer

    def _refuse(self, run: Run, ending: Ending, handle: Any) -> ExecuteInstruction.Result:
        """Of a goal that never began: the arm, and the goal that moves it, know nothing of it."""
        result = self._result(run, ending)
        _terminate(handle.abort, result)
        return result

    def _execute(self, run: Run, handle: Any) -> ExecuteInstruction.Result:
        """The life of a goal, in a thread of the executor. Never raises: rclpy would answer with an empty result."""
        try:
            while not (run.over.wait(SUPERVISION_PERIOD) and run.ending):
                self.supervise(run)
            ending = run.ending
        except Exception as error:
            self._node.get_logger().error(traceback.format_exc())
            failed = Ending(GoalCode.UNKNOWN, "fault", f"vla_node failed inside: {sentence(error)}")
            self.end(run, failed)
            ending = run.ending or failed
        result = self._result(run, ending)
        self._answer(run, ending, result)
        run.answered.set()
        return result

    def _result(self, run: Run, ending: Ending) -> ExecuteInstruction.Result:
        with self.lock:
            return ExecuteInstruction.Result(
                error_code=int(ending.code),
                error_msg=ending.message,
                termination_reason=ending.reason,
                steps=len(run.decisions),
                elapsed_time=max(0.0, self._clock.now() - run.accepted),
                decode_summary=decisions.decode_summary(run.decisions, self._node.decoder_name),
                unknown_words=run.unknown_words,
                not_judged=run.not_judged,
            )

    def _answer(self, run: Run, ending: Ending, result: ExecuteInstruction.Result) -> None:
        """Sets the goal's terminal state. canceled() is legal only once rclpy has noted the cancel request."""
        handle = run.handle
        if ending is CANCELED:
            deadline = self._clock.steady() + 1.0
            while not handle.is_cancel_requested and self._clock.steady() < deadline:
                time.sleep(0.001)
        if ending is SUCCESS:
            _terminate(handle.succeed, result)
        elif ending is CANCELED and handle.is_cancel_requested:
            _terminate(handle.canceled, result)
        else:
            _terminate(handle.abort, result)
        end = f"Goal ended after {result.steps} steps, {result.elapsed_time:.1f} s: {result.termination_reason}."
        if ending.reason == "fault":
            self._node.get_logger().warning(f"{end} {ending.message}")
        else:
            self._node.get_logger().info(end)


def _speaks_of(message: TaskSuccess, instruction: str) -> bool:
    """Whether what somebody says of success is about this instruction, however it is written."""
    return not message.instruction or normalized(message.instruction) == normalized(instruction)


def _terminate(transition: Any, result: ExecuteInstruction.Result) -> None:
    """Calls a goal handle's succeed, abort or canceled with the result where that rclpy takes one.

    Newer versions send whatever they are given, so without it an empty result; older ones take no argument.
    """
    transition(*([result] if inspect.signature(transition).parameters else []))
