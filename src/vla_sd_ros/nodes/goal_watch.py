# SPDX-License-Identifier: Apache-2.0
"""What decides over a running goal: go on, hold, or end. No ROS in here: times and ages in, verdicts out.

All times in seconds. `steady` times come from a clock that never jumps; `elapsed` runs on the node's clock, which is
simulated time where use_sim_time is set.
"""
import math
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np

from vla_sd_ros import stamps
from vla_sd_ros.images import contrast


class Code(IntEnum):
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
    ARM_FAULT = 1100


ARM_FAULTS = range(1101, 1200)      # codes of ArmStatus that are error codes of a goal as well


class Ending(NamedTuple):
    """How a goal ends: error code, termination reason, and one sentence (empty for success)."""
    code: int
    reason: str
    message: str = ""


SUCCESS = Ending(Code.NONE, "success")
CANCELED = Ending(Code.CANCELED, "cancelled", "The client cancelled the goal.")
PREEMPTED = Ending(Code.PREEMPTED, "preempted", "A newer goal took over.")
DEACTIVATED = Ending(Code.NODE_DEACTIVATED, "fault", "vla_node was deactivated or shut down during the goal.")
SCENE_RESET = Ending(Code.SCENE_RESET, "fault", "The simulator's scene was reset during the goal; send it again.")


def task_failed(why: str) -> Ending:
    return Ending(Code.TASK_FAILED, "failure", f"Something else was done than was asked for: {why.rstrip('.')}.")


def inference_failed(why: object) -> Ending:
    return Ending(Code.INFERENCE_FAILED, "fault", f"The model gave no usable action: {str(why).rstrip('.')}.")


class Verdict(NamedTuple):
    """hold: no motion now. ending: the goal is over. why: one sentence while the goal holds."""
    hold: bool = False
    why: str = ""
    ending: Ending | None = None


@dataclass(frozen=True)
class Limits:
    """Limits of a goal and of its inputs [s], from the goal and the node's parameters."""
    time_limit: float
    step_limit: int
    control_period: float
    image_timeout: float
    image_grace: float
    joint_states_timeout: float
    joint_states_grace: float
    arm_grace: float
    image_contrast: float = 0.0
    client_timeout: float = 0.0     # 0: a goal goes on without its client


@dataclass(frozen=True)
class View:
    """What the node sees at one moment. Ages are infinite for what never came, negative for stamps ahead of the clock."""
    steady: float                   # now
    elapsed: float                  # since the goal was accepted
    steps: int                      # actions executed
    since_step: float               # since the newest action was sent
    image_age: float
    joint_states_age: float
    arm_age: float = math.inf       # of the newest status of arm_node
    arm_code: int = 0
    arm_message: str = ""
    image_unchanged: float = 0.0    # for how long the picture has been the same while the arm moved
    image_contrast: float = math.inf
    client_gone: float = 0.0        # for how long the client has been gone
    image_unread: float = 0.0       # for how long no picture could be decoded though images came
    image_problem: str = ""         # why not
    image_advice: str = "check the publisher and its clock"     # where no image comes


@dataclass
class _Since:
    """For how long a condition has been true without a break."""
    start: float | None = None

    def seconds(self, true: bool, now: float) -> float:
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

    def check(self, view: View, limits: Limits) -> Verdict:
        """The verdict at this moment: limits first, then stale inputs, then the arm."""
        if view.steps >= limits.step_limit and view.since_step >= limits.control_period:    # the last action is done
            return Verdict(ending=Ending(Code.STEP_LIMIT, "step_limit", f"The step limit of {limits.step_limit} was "
                                                                        "reached before success was signalled."))
        if view.elapsed >= limits.time_limit:
            return Verdict(ending=Ending(Code.TIME_LIMIT, "time_limit", f"The time limit of {limits.time_limit:g} s "
                                                                        "ran out before success was signalled."))
        if 0.0 < limits.client_timeout <= view.client_gone:
            return Verdict(ending=Ending(Code.CLIENT_GONE, "fault", f"The client has been gone for {view.client_gone:.1f} s "
                                         f"(limit {limits.client_timeout:g} s, goal.client_timeout)."))
        verdicts = (self._check_age(self._image, view.steady, "camera image", view.image_age, limits.image_timeout,
                                    limits.image_grace, Code.IMAGE_STALE, view.image_advice),
                    self._check_unread(view, limits), self._check_frozen(view, limits), self._check_blank(view, limits),
                    self._check_age(self._joint_states, view.steady, "joint state", view.joint_states_age,
                                    limits.joint_states_timeout, limits.joint_states_grace, Code.JOINT_STATES_STALE),
                    self._check_arm(view, limits))
        return next((v for v in verdicts if v.ending), next((v for v in verdicts if v.hold), Verdict()))

    def _check_age(self, since: _Since, now: float, name: str, age: float, timeout: float, grace: float,
                   code: Code, advice: str = "check the publisher and its clock") -> Verdict:
        what = f"The newest {name} {stamps.told(age)}" if math.isfinite(age) else f"No {name} has come yet"
        why = f"{what} (limit {timeout:g} s)" if abs(age) > timeout else ""
        return self._hold(since, now, why, grace, code, advice)

    def _check_unread(self, view: View, limits: Limits) -> Verdict:
        why = (f"No picture could be made of the camera's images for {view.image_unread:.1f} s (limit {limits.image_timeout:g} "
               f"s): {view.image_problem.rstrip('.')}" if view.image_unread > limits.image_timeout else "")
        return self._hold(self._unread, view.steady, why, limits.image_grace, Code.IMAGE_UNDECODABLE,
                          "check the camera's driver and the network")

    def _check_frozen(self, view: View, limits: Limits) -> Verdict:
        why = (f"The camera has shown the same picture for {view.image_unchanged:.1f} s while the arm moved (limit "
               f"{limits.image_timeout:g} s)" if view.image_unchanged > limits.image_timeout else "")
        return self._hold(self._frozen, view.steady, why, limits.image_grace, Code.IMAGE_FROZEN,
                          "start the camera's driver again")

    def _check_blank(self, view: View, limits: Limits) -> Verdict:
        why = (f"The camera shows nothing: the contrast is {view.image_contrast:.1f} (limit {limits.image_contrast:g})"
               if view.image_contrast < limits.image_contrast else "")
        return self._hold(self._blank, view.steady, why, limits.image_grace, Code.IMAGE_BLANK,
                          "check light, exposure and lens")

    @staticmethod
    def _hold(since: _Since, now: float, why: str, grace: float, code: Code, advice: str) -> Verdict:
        """Hold while there is a reason `why`, a sentence without its end; past the grace time [s] the goal ends."""
        lasted = since.seconds(bool(why), now)
        if not why:
            return Verdict()
        if lasted >= grace:
            return Verdict(True, why, Ending(code, "fault", f"{why} and the grace time of {grace:g} s is over; {advice}."))
        return Verdict(True, f"{why}; holding.")

    def _check_arm(self, view: View, limits: Limits) -> Verdict:
        """The arm holds by itself in a fault; the goal ends when the fault stays, or when arm_node falls silent."""
        fault = view.arm_code in ARM_FAULTS
        if self._arm.seconds(fault, view.steady) >= limits.arm_grace and fault:
            return Verdict(ending=Ending(view.arm_code, "fault", view.arm_message or "arm_node reports a fault."))
        heard, patience = math.isfinite(view.arm_age), max(limits.arm_grace, 1.0)      # status comes at 10 Hz
        if heard and view.arm_age > patience:
            return Verdict(ending=Ending(Code.ARM_FAULT, "fault", f"arm_node has been silent for {view.arm_age:.1f} s; "
                                                                  "start it again."))
        unheard = self._unheard.seconds(not heard, view.steady)
        if unheard >= patience:
            return Verdict(ending=Ending(Code.ARM_FAULT, "fault", f"No status of arm_node has come for {unheard:.1f} s, so nobody "
                                         "executes this goal; start and activate arm_node, in this namespace and ROS domain."))
        return Verdict()


class ClientWatch:
    """Whether anybody who may have sent the goal is still there.

    ROS does not tell who sent it, but every action client listens to the feedback: one of those who do as the goal begins did.
    """
    DISCOVERY = 1.0     # s, in which a client that sent a goal is discovered

    def __init__(self) -> None:
        self._listeners: set[bytes] = set()
        self._gone = _Since()

    def gone(self, listeners: Set[bytes], elapsed: float, steady: float) -> float:
        """For how long all have been gone [s]. listeners: who hears the feedback now; elapsed: since the goal began [s]."""
        if elapsed < self.DISCOVERY:
            self._listeners |= listeners
            return 0.0
        return self._gone.seconds(not self._listeners & listeners, steady)


class PictureWatch:
    """Whether the picture tells of the world: it can be decoded, it changes while the arm moves, and it has contrast.

    A simulated picture may well stay the same to the last bit, but only as long as nothing moves; one of a camera never
    does.
    """

    def __init__(self) -> None:
        self._pixels: np.ndarray | None = None
        self._joints: dict[str, float] = {}     # at the first sight of this picture
        self._since = 0.0
        self._moved = False
        self._read_at: float | None = None      # the newest picture, or the first image that was none
        self.problem = ""                       # why the newest image was no picture; empty where it was one
        self.contrast = math.inf                # contrast(pixels)

    def see(self, pixels: np.ndarray, joints: Mapping[str, float], motion: float, steady: float) -> None:
        """Take a picture, uint8 (height, width, 3), and the positions of the joints by name [rad] at this time [s].

        motion: of one joint, during which the picture must change [rad]; 0: it need not.
        """
        self._read_at, self.problem, self.contrast = steady, "", contrast(pixels)
        if self._pixels is None or not np.array_equal(pixels, self._pixels):
            self._pixels, self._joints, self._since, self._moved = pixels, {}, steady, False
        self._joints = self._joints or dict(joints)
        ways = [abs(joints[name] - before) for name, before in self._joints.items() if name in joints]
        self._moved |= motion > 0.0 and any(way > motion for way in ways)

    def miss(self, problem: str, steady: float) -> None:
        """Take notice of an image of which no picture could be made, for a reason in one sentence, at this time [s]."""
        self.problem = problem
        self._read_at = steady if self._read_at is None else self._read_at

    def unread(self, steady: float) -> float:
        """For how long no picture could be made of the images that came [s]; 0 where the newest one is a picture."""
        return steady - self._read_at if self.problem else 0.0

    def unchanged(self, steady: float) -> float:
        """For how long the picture has been the same while the arm moved [s]; 0 where it changes, or nothing moved."""
        return steady - self._since if self._moved else 0.0


class Sample(NamedTuple):
    """One received message; stamp on the node's clock (see stamps.py), received steady."""
    message: Any
    stamp: float
    received: float


class Latest:
    """The newest message of a topic: no queue. One writer, any reader; a sample is replaced in one piece."""

    def __init__(self) -> None:
        self.sample: Sample | None = None

    def age(self, clock: float, steady: float) -> float:
        """Seconds by stamp and receipt, see stamps.py; negative for a stamp ahead of the clock. inf: nothing."""
        sample = self.sample
        return math.inf if sample is None else stamps.age(sample.stamp, clock, steady - sample.received)


class Pacer:
    """One action per control period, each on an image that was not used before.

    The time that passes here decides: an action may come sooner than a period after the one before only as far as that one
    came late, so that over any time there are no more actions than periods, whatever the stamps say. Within that, an image
    whose stamp lies a period after that of the last used one is taken when it comes: a camera at the control rate adds no
    delay. Cameras whose frames fall otherwise are sampled by time.
    """
    SPACING = 0.95      # of a period, between the stamps of two images; leaves room for jitter
    PATIENCE = 1.1      # of a period, since the last action, after which an image with less spacing will do
    HASTE = 0.5         # of a period, by which an action may come early after one that came late
    PACE = 0.98         # of a period, between actions in the long run: cameras and clocks differ by so much

    def __init__(self) -> None:
        self._seen: float | None = None         # stamp of the last image that was taken, used or not
        self._stamp: float | None = None        # of the last used one
        self._started = self._due = -math.inf   # the last action, and when the next one would be on time

    def wait(self, sample: Sample | None, steady: float, period: float) -> float:
        """Seconds until this image may be used; 0: now; inf: it has been used, or there is none."""
        if sample is None or sample.stamp == self._seen:
            return math.inf
        close = self._stamp is not None and 0.0 < sample.stamp - self._stamp < self.SPACING * period
        # Negative: the clock was set back, and the stamps say nothing.
        free = max(self._started + (self.PATIENCE if close else self.HASTE) * period, self._due - self.HASTE * period)
        return max(0.0, free - steady)

    def use(self, sample: Sample, steady: float, period: float) -> None:
        """An action is decided on this image."""
        self._seen = self._stamp = sample.stamp
        self._started, self._due = steady, max(self._due, steady) + self.PACE * period

    def skip(self, sample: Sample) -> None:
        """No action came of this image: the next one may be used at once."""
        self._seen = sample.stamp
