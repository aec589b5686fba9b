# SPDX-License-Identifier: Apache-2.0
"""What decides over a running goal: go on, hold, or end. No ROS in here: times and ages in, verdicts out.

All times in seconds. `steady` times come from a clock that never jumps; `elapsed` runs on the node's clock, which is
simulated time where use_sim_time is set.
"""
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np


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


@dataclass(frozen=True)
class View:
    """What the node sees at one moment. Ages are infinite for what never came."""
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
    _joint_states: _Since = field(default_factory=_Since)
    _arm: _Since = field(default_factory=_Since)

    def check(self, view: View, limits: Limits) -> Verdict:
        """The verdict at this moment: limits first, then stale inputs, then the arm."""
        if view.steps >= limits.step_limit and view.since_step >= limits.control_period:    # the last action is done
            return Verdict(ending=Ending(Code.STEP_LIMIT, "step_limit", f"The step limit of {limits.step_limit} was "
                                                                        "reached before success was signalled."))
        if view.elapsed >= limits.time_limit:
            return Verdict(ending=Ending(Code.TIME_LIMIT, "time_limit", f"The time limit of {limits.time_limit:g} s "
                                                                        "ran out before success was signalled."))
        verdicts = (self._check_age(self._image, view.steady, "camera image", view.image_age, limits.image_timeout,
                                    limits.image_grace, Code.IMAGE_STALE, view.image_advice),
                    self._check_frozen(view, limits), self._check_blank(view, limits),
                    self._check_age(self._joint_states, view.steady, "joint state", view.joint_states_age,
                                    limits.joint_states_timeout, limits.joint_states_grace, Code.JOINT_STATES_STALE),
                    self._check_arm(view, limits))
        return next((v for v in verdicts if v.ending), next((v for v in verdicts if v.hold), Verdict()))

    def _check_age(self, since: _Since, now: float, name: str, age: float, timeout: float, grace: float,
                   code: Code, advice: str = "check the publisher and its clock") -> Verdict:
        what = f"The newest {name} is {age:.1f} s old" if math.isfinite(age) else f"No {name} has come yet"
        why = f"{what} (limit {timeout:g} s)" if age > timeout else ""
        return self._hold(since, now, why, grace, code, advice)

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
        if math.isfinite(view.arm_age) and view.arm_age > max(limits.arm_grace, 1.0):       # status comes at 10 Hz
            return Verdict(ending=Ending(Code.ARM_FAULT, "fault", f"arm_node has been silent for {view.arm_age:.1f} s; "
                                                                  "start it again."))
        return Verdict()


class PictureWatch:
    """Whether the picture tells of the world: it changes while the arm moves, and it has contrast.

    A simulated picture may well stay the same to the last bit, but only as long as nothing moves; one of a camera never
    does.
    """

    def __init__(self) -> None:
        self._pixels: np.ndarray | None = None
        self._joints: dict[str, float] = {}     # at the first sight of this picture
        self._since = 0.0
        self._moved = False
        self.contrast = math.inf                # standard deviation of the values of all channels, 0 .. 127

    def see(self, pixels: np.ndarray, joints: Mapping[str, float], motion: float, steady: float) -> None:
        """Take a picture, uint8 (height, width, 3), and the positions of the joints by name [rad] at this time [s].

        motion: of one joint, during which the picture must change [rad]; 0: it need not.
        """
        self.contrast = float(np.std(pixels[::4, ::4]))
        if self._pixels is None or not np.array_equal(pixels, self._pixels):
            self._pixels, self._joints, self._since, self._moved = pixels, {}, steady, False
        self._joints = self._joints or dict(joints)
        ways = [abs(joints[name] - before) for name, before in self._joints.items() if name in joints]
        self._moved |= motion > 0.0 and any(way > motion for way in ways)

    def unchanged(self, steady: float) -> float:
        """For how long the picture has been the same while the arm moved [s]; 0 where it changes, or nothing moved."""
        return steady - self._since if self._moved else 0.0


class Sample(NamedTuple):
    """One received message; stamp on the node's clock (of receipt where the header has none), received steady."""
    message: Any
    stamp: float
    received: float


class Latest:
    """The newest message of a topic: no queue. One writer, any reader; a sample is replaced in one piece."""

    def __init__(self) -> None:
        self.sample: Sample | None = None

    def age(self, clock: float, steady: float) -> float:
        """Seconds by the older of stamp and receipt: a silent driver and a late one are both stale. inf: nothing."""
        sample = self.sample
        return math.inf if sample is None else max(clock - sample.stamp, steady - sample.received)


class Pacer:
    """One action per control period, each on an image that was not used before.

    An image whose stamp lies a period after that of the last used one is taken when it comes, so that a camera at the
    control rate adds no delay. Cameras whose frames fall otherwise are sampled by time.
    """
    SPACING = 0.95      # of a period, between the stamps of two images; leaves room for jitter
    PATIENCE = 1.1      # of a period, since the last action, after which an image with less spacing will do
    HASTE = 0.5         # of a period, since the last action: no sooner, whatever the stamps say

    def __init__(self) -> None:
        self._stamp: float | None = None
        self._started = -math.inf

    def wait(self, sample: Sample | None, steady: float, period: float) -> float:
        """Seconds until this image may be used; 0: now; inf: it has been used, or there is none."""
        if sample is None or sample.stamp == self._stamp:
            return math.inf
        close = self._stamp is not None and 0.0 < sample.stamp - self._stamp < self.SPACING * period
        # Negative: the clock was set back, and the stamps say nothing.
        return max(0.0, self._started + (self.PATIENCE if close else self.HASTE) * period - steady)

    def use(self, sample: Sample, steady: float) -> None:
        self._stamp, self._started = sample.stamp, steady
