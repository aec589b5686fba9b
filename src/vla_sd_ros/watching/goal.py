# SPDX-License-Identifier: Apache-2.0
"""What decides over a running goal: go on, hold, or end. Times and ages in, verdicts out.

All times in seconds. `steady` times come from a clock that never jumps; `elapsed` runs on the node's clock, which is
simulated time where use_sim_time is set.
"""

import math
from collections.abc import Set
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from vla_sd_ros.messages import stamps


class GoalCode(IntEnum):
    """Error codes of vla_sd_msgs/action/ExecuteInstruction."""

    NONE = 0
    UNKNOWN = 1
    CANCELED = 1001
    PREEMPTED = 1002
    TIME_LIMIT = 1003
    STEP_LIMIT = 1004
    IMAGE_STALE = 1005
    JOINT_STATES_STALE = 1006
    INFERENCE_FAILED = 1007
    NODE_DEACTIVATED = 1008
    IMAGE_FROZEN = 1009
    IMAGE_BLANK = 1010
    IMAGE_UNDECODABLE = 1011
    CLIENT_GONE = 1012
    SCENE_RESET = 1013
    TASK_FAILED = 1014
    GOAL_REFUSED = 1015
    ARM_FAULT = 1100


CHECK_PUBLISHER = "check the publisher and its clock"
ARM_FAULTS = range(1101, 1200)  # codes of ArmStatus that are error codes of a goal as well


class Ending(NamedTuple):
    """How a goal ends: error code, termination reason, and one sentence (empty for success)."""

    code: int
    reason: str
    message: str = ""


SUCCESS = Ending(GoalCode.NONE, "success")
CANCELED = Ending(GoalCode.CANCELED, "cancelled", "The client cancelled the goal.")
PREEMPTED = Ending(GoalCode.PREEMPTED, "preempted", "A newer goal took over.")
DEACTIVATED = Ending(GoalCode.NODE_DEACTIVATED, "fault", "vla_node was deactivated or shut down during the goal.")
SCENE_RESET = Ending(GoalCode.SCENE_RESET, "fault", "The simulator's scene was reset during the goal; send it again.")


def refused(why: str) -> Ending:
    """A goal that never began. why: one sentence."""
    return Ending(GoalCode.GOAL_REFUSED, "refused", why)


def task_failed(why: str) -> Ending:
    """How a goal ends when something else was done than was asked for. why: what, as a sentence."""
    return Ending(GoalCode.TASK_FAILED, "failure", f"Something else was done than was asked for: {why.rstrip('.')}.")


def inference_failed(why: object) -> Ending:
    """How a goal ends when the model gives no action. why: an error, or one sentence."""
    return Ending(GoalCode.INFERENCE_FAILED, "fault", f"The model gave no usable action: {str(why).rstrip('.')}.")


class Verdict(NamedTuple):
    """hold: no motion now. ending: the goal is over. why: one sentence while the goal holds."""

    hold: bool = False
    why: str = ""
    ending: Ending | None = None


@dataclass(frozen=True, kw_only=True)
class GoalLimits:
    """GoalLimits of a goal and of its inputs [s], from the goal and the node's parameters."""

    time_limit: float
    step_limit: int
    control_period: float
    image_timeout: float
    image_grace: float
    joint_states_timeout: float
    joint_states_grace: float
    arm_grace: float
    image_contrast: float = 0.0
    client_timeout: float = 0.0  # 0: a goal goes on without its client


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What the node sees at one moment. Ages are infinite for what never came, negative for stamps ahead of the clock."""

    steady: float  # now
    elapsed: float  # since the goal was accepted
    steps: int  # actions executed
    since_step: float  # since the newest action was sent
    image_age: float
    joint_states_age: float
    arm_age: float = math.inf  # of the newest status of arm_node
    arm_code: int = 0
    arm_message: str = ""
    image_unchanged: float = 0.0  # for how long the picture has been the same while the arm moved
    image_contrast: float = math.inf
    client_gone: float = 0.0  # for how long the client has been gone
    image_unread: float = 0.0  # for how long no picture could be decoded though images came
    image_problem: str = ""  # why not
    image_advice: str = CHECK_PUBLISHER  # where no image comes


@dataclass
class _Since:
    """For how long a condition has been true without a break."""

    start: float | None = None

    def seconds(self, true: bool, now: float) -> float:
        """For how long [s] it has been true by `now` [s]; 0 where it is not `true` now."""
        if not true:
            self.start = None
            return 0.0
        if self.start is None:
            self.start = now
        return now - self.start


@dataclass
class GoalWatch:
    """Watches one goal. `check` is called often; it remembers only since when something has been wrong."""

    _image: _Since = field(default_factory=_Since)
    _frozen: _Since = field(default_factory=_Since)
    _blank: _Since = field(default_factory=_Since)
    _unread: _Since = field(default_factory=_Since)
    _joint_states: _Since = field(default_factory=_Since)
    _arm: _Since = field(default_factory=_Since)
    _unheard: _Since = field(default_factory=_Since)

    def check(self, seen: Situation, limits: GoalLimits) -> Verdict:
        """The verdict at this moment: limits first, then stale inputs, then the arm."""
        if ending := _limit_reached(seen, limits):
            return Verdict(ending=ending)
        verdicts = (
            self._check_image(seen, limits),
            self._check_unread(seen, limits),
            self._check_frozen(seen, limits),
            self._check_blank(seen, limits),
            self._check_joint_states(seen, limits),
            self._check_arm(seen, limits),
        )
        return next((v for v in verdicts if v.ending), next((v for v in verdicts if v.hold), Verdict()))

    def _check_image(self, seen: Situation, limits: GoalLimits) -> Verdict:
        why = _too_old("camera image", seen.image_age, limits.image_timeout)
        return self._hold(self._image, seen.steady, why, limits.image_grace, GoalCode.IMAGE_STALE, seen.image_advice)

    def _check_joint_states(self, seen: Situation, limits: GoalLimits) -> Verdict:
        why = _too_old("joint state", seen.joint_states_age, limits.joint_states_timeout)
        grace, code = limits.joint_states_grace, GoalCode.JOINT_STATES_STALE
        return self._hold(self._joint_states, seen.steady, why, grace, code, CHECK_PUBLISHER)

    def _check_unread(self, seen: Situation, limits: GoalLimits) -> Verdict:
        why, advice = "", "check the camera's driver and the network"
        if seen.image_unread > limits.image_timeout:
            lasted = f"{seen.image_unread:.1f} s (limit {limits.image_timeout:g} s)"
            why = f"No picture could be made of the camera's images for {lasted}: {seen.image_problem.rstrip('.')}"
        return self._hold(self._unread, seen.steady, why, limits.image_grace, GoalCode.IMAGE_UNDECODABLE, advice)

    def _check_frozen(self, seen: Situation, limits: GoalLimits) -> Verdict:
        why, advice = "", "start the camera's driver again"
        # An arm that reports a fault holds; what its joint states say of motion may be that very fault.
        if seen.image_unchanged > limits.image_timeout and seen.arm_code not in ARM_FAULTS:
            limit = f"limit {limits.image_timeout:g} s"
            why = f"The camera has shown the same picture for {seen.image_unchanged:.1f} s while the arm moved ({limit})"
        return self._hold(self._frozen, seen.steady, why, limits.image_grace, GoalCode.IMAGE_FROZEN, advice)

    def _check_blank(self, seen: Situation, limits: GoalLimits) -> Verdict:
        why = ""
        if seen.image_contrast < limits.image_contrast:
            why = f"The camera shows nothing: the contrast is {seen.image_contrast:.1f} (limit {limits.image_contrast:g})"
        return self._hold(self._blank, seen.steady, why, limits.image_grace, GoalCode.IMAGE_BLANK, "check light, exposure and lens")

    @staticmethod
    def _hold(since: _Since, now: float, why: str, grace: float, code: GoalCode, advice: str) -> Verdict:
        """Hold while there is a reason `why`, a sentence without its end; past the grace time [s] the goal ends."""
        lasted = since.seconds(bool(why), now)
        if not why:
            return Verdict()
        if lasted >= grace:
            return Verdict(True, why, Ending(code, "fault", f"{why} and the grace time of {grace:g} s is over; {advice}."))
        return Verdict(True, f"{why}; holding.")

    def _check_arm(self, seen: Situation, limits: GoalLimits) -> Verdict:
        """The arm holds by itself in a fault; the goal ends when the fault stays, or when arm_node falls silent."""
        fault = seen.arm_code in ARM_FAULTS
        if self._arm.seconds(fault, seen.steady) >= limits.arm_grace and fault:
            return Verdict(ending=Ending(seen.arm_code, "fault", seen.arm_message or "arm_node reports a fault."))
        heard, patience = math.isfinite(seen.arm_age), max(limits.arm_grace, 1.0)  # status comes at 10 Hz
        unheard, why = self._unheard.seconds(not heard, seen.steady), ""
        if heard and seen.arm_age > patience:
            why = f"arm_node has been silent for {seen.arm_age:.1f} s; start it again."
        elif unheard >= patience:
            why = (
                f"No status of arm_node has come for {unheard:.1f} s, so nobody executes this goal; start and activate arm_node, "
                "in this namespace and ROS domain."
            )
        return Verdict(ending=Ending(GoalCode.ARM_FAULT, "fault", why)) if why else Verdict()


def _limit_reached(seen: Situation, limits: GoalLimits) -> Ending | None:
    """How the goal ends by its own limits, or because nobody waits for it any more."""
    if seen.steps >= limits.step_limit and seen.since_step >= limits.control_period:  # the last action is done
        why = f"The step limit of {limits.step_limit} was reached before success was signalled."
        return Ending(GoalCode.STEP_LIMIT, "step_limit", why)
    if seen.elapsed >= limits.time_limit:
        why = f"The time limit of {limits.time_limit:g} s ran out before success was signalled."
        return Ending(GoalCode.TIME_LIMIT, "time_limit", why)
    if 0.0 < limits.client_timeout <= seen.client_gone:
        limit = f"limit {limits.client_timeout:g} s, goal.client_timeout"
        return Ending(GoalCode.CLIENT_GONE, "fault", f"The client has been gone for {seen.client_gone:.1f} s ({limit}).")
    return None


def _too_old(name: str, age: float, timeout: float) -> str:
    """Why an input of this age [s] cannot be used, as a sentence without its end; empty where it can."""
    if abs(age) <= timeout:
        return ""
    what = f"The newest {name} {stamps.told(age)}" if math.isfinite(age) else f"No {name} has come yet"
    return f"{what} (limit {timeout:g} s)"


class ClientWatch:
    """Whether anybody who may have sent the goal is still there.

    ROS does not tell who sent it, but every action client listens to the feedback: one of those who do as the goal begins did.
    """

    DISCOVERY = 1.0  # s, in which a client that sent a goal is discovered

    def __init__(self) -> None:
        self._listeners: set[bytes] = set()
        self._gone = _Since()

    def gone(self, listeners: Set[bytes], elapsed: float, steady: float) -> float:
        """For how long all have been gone [s]. listeners: who hears the feedback now; elapsed: since the goal began [s]."""
        if elapsed < self.DISCOVERY:
            self._listeners |= listeners
            return 0.0
        return self._gone.seconds(not self._listeners & listeners, steady)
