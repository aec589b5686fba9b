# SPDX-License-Identifier: Apache-2.0
"""Every fault of the table in docs/safety.md: how it is brought into a running System, and what must come of it.

`benchmarks/faults.py` measures them, the tests try them, `benchmarks/soak.py` repeats them.

    trial = run(system, FAULTS[0])
    assert not trial.problems
"""

import itertools
import math
import os
import signal
import threading
import time
from array import array
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from xml.etree import ElementTree

import numpy as np
from geometry_msgs.msg import PoseStamped
from processes import LATCHED
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from system import System, motion
from vla_sd_msgs.msg import ArmStatus

from vla_sd_ros.arms.controllers import LOOKS
from vla_sd_ros.arms.wiring import GRAPH_PERIOD
from vla_sd_ros.control.codes import Code as Arm
from vla_sd_ros.control.joint_states import PERIOD as TWO_PLACES
from vla_sd_ros.control.one_master import PERIOD
from vla_sd_ros.nodes.arm_node import STATUS_PERIOD
from vla_sd_ros.watching.goal import GoalCode as Goal

DELIVERY = 0.05  # s: of messages on their way, and of a process for its turn on the processor
STAMPS = 0.001  # s, between the moment that a target is for and its stamp
DISCOVERY = 0.5  # s, until a publisher is heard that was not there before
SINKING = 0.3  # s, until an arm that sags has sunk by follow.away_distance
WATCH = 4.0  # s, for which motion that must go on is watched
GONE, GOES_ON = -1, -2  # no result, because vla_node is gone; no result, because the goal goes on
NAMES = {GONE: "vla_node is gone (ConnectionError of the client)", GOES_ON: "none: the goal goes on"}


def code_name(code: int) -> str:
    """Of ~/status or of a goal's result, for people."""
    if code in NAMES:
        return NAMES[code]
    for kind in (Arm, Goal):
        if code in list(kind):
            return f"{kind(code).name} ({code})"
    return str(code)


@dataclass(frozen=True)
class Fault:
    """`bound`: sum of the terms of `terms()`, from the injection to rest; empty: the motion must go on instead.

    `status`: codes one of which ~/status must show. `result`: error codes of which the goal must end with one.
    """

    name: str
    how: str
    inject: Callable[[System], None]
    bound: str
    status: tuple[int, ...]
    result: tuple[int, ...]
    heal: Callable[[System], None] = lambda system: None
    sentence: str = ""  # that the result must contain
    warning: str = ""  # that /diagnostics must contain
    heal_after: float = 0.0  # s, after which it is healed, because no result can come before; 0: when the result is there
    watch: float = WATCH  # s, for which motion that must go on is watched


@dataclass
class Trial:
    """What came of one injection. Times [s] since it, distances [mm]; problems: sentences, none where all is well."""

    rest: float
    bound: float
    jump: float
    jump_bound: float
    state: str
    codes: list[int]
    message: str
    result: int
    sentence: str
    ended: float
    problems: list[str] = field(default_factory=list)


def terms(system: System) -> dict[str, float]:
    """What the bounds are made of [s], with the parameters in force."""
    arm, vla = system.values["arm_node"], system.values["vla_node"]
    return {
        "command_timeout": arm["command_timeout"],
        "joint_state_timeout": arm["joint_state_timeout"],
        "image.timeout": vla["image.timeout"],
        "control_period": vla["control_period"],
        "camera period": 0.2,
        "graph period": GRAPH_PERIOD,
        "controller look": 1.0 / LOOKS + STATUS_PERIOD,
        "discovery": DISCOVERY,
        "sinking": SINKING,
        "tick": 1.0 / arm["rate"],
        "braking": system.braking(),
        "delivery": DELIVERY,
        "0": 0.0,
    }


def bound(system: System, fault: Fault) -> float:
    """From the injection to rest [s]; nan where the motion must go on."""
    if not fault.bound:
        return math.nan
    values = terms(system)
    return sum(values[term.strip()] for term in fault.bound.split("+"))


def run(system: System, fault: Fault, slack: float = 0.0) -> Trial:
    """One trial from a reset to the goal's end. slack: added to the bounds [s], where the machine is busy otherwise."""
    system.restart_dead()
    system.reset()
    system.start_moving()
    injected = time.monotonic()
    try:
        fault.inject(system)
        rest = system.wait_for_rest(injected) if fault.bound else math.nan
        if fault.heal_after:
            time.sleep(fault.heal_after)
            fault.heal(system)
        ending = _ending(system, fault)
    finally:
        fault.heal(system)
    trial = _judge(system, fault, injected, rest, ending, slack)
    if system.processes["vla_node"].process.poll() is None:
        system.end_goal()
    return trial


def failed(system: System, fault: Fault, error: Exception) -> Trial:
    """A trial that could not be made: a problem in the table, not its end."""
    problem = f"the trial was not made: {error}"
    return Trial(math.nan, bound(system, fault), 0.0, 0.0, "unknown", [], "", 0, "", math.nan, [problem])


def _ending(system: System, fault: Fault) -> tuple[int, str, float]:
    """Error code and sentence of the goal, and the time of its end [s]."""
    if GOES_ON in fault.result:
        if not system.client.is_complete(system.values["arm_node"]["command_timeout"] + 1.0 if fault.bound else fault.watch):
            return GOES_ON, "", time.monotonic()
    else:
        try:
            while not system.client.is_complete(0.1):
                pass
        except ConnectionError as error:
            return GONE, str(error), time.monotonic()
    result = system.client.result(1.0)
    return result.error_code, result.error_msg, time.monotonic()


def _judge(system: System, fault: Fault, injected: float, rest: float, ending: tuple[int, str, float], slack: float) -> Trial:
    statuses = [message for when, message in list(system.statuses) if when > injected]
    codes = list(dict.fromkeys(m.code for m in statuses if m.code not in (Arm.OK, Arm.NO_COMMAND)))
    named = [m.message for m in statuses if m.code in fault.status]
    around = [seen for seen in list(system.targets) if seen[0] > injected - 0.5]
    stamps = np.array([m.header.stamp.sec + 1e-9 * m.header.stamp.nanosec for _, m in around])
    _, way, _ = motion(around)
    # A jump is what the arm could not have gone at its limit since the target before.
    fastest = np.maximum(np.diff(stamps), 0.01) + STAMPS + slack / 10
    fastest *= system.values["arm_node"]["limits.linear_velocity"]
    largest = int(np.argmax(way)) if len(way) else None
    last = statuses[-1] if statuses else None
    silent = not around or time.monotonic() - around[-1][0] > 0.5
    state = "silent; its controller holds" if silent else "holding" if last and last.state == ArmStatus.HOLDING else "moving"
    limit = 0.0 if largest is None else float(1e3 * fastest[largest])
    trial = Trial(
        rest - injected,
        bound(system, fault),
        float(1e3 * way.max(initial=0.0)),
        limit,
        state,
        codes,
        named[-1] if named else "",
        ending[0],
        ending[1],
        ending[2] - injected,
    )
    gap = float(np.diff([when for when, _ in around]).max(initial=0.0))
    if not fault.bound and gap > 0.1 + slack:
        trial.problems.append(f"targets did not come for {gap:.3f} s")
    if fault.warning and fault.warning not in " ".join(m.status[0].message for _, m in list(system.diagnostics)):
        trial.problems.append(f"/diagnostics did not say {fault.warning!r}")
    if trial.rest > trial.bound + slack:
        trial.problems.append(f"at rest after {trial.rest:.3f} s, later than {trial.bound:.3f} s")
    trial.problems += [
        f"a jump of {1e3 * far:.2f} mm, more than {1e3 * most:.2f} mm at the speed limit"
        for far, most in zip(way, fastest)
        if far > most
    ]
    if fault.status and not set(fault.status) & {m.code for m in statuses}:
        trial.problems.append(f"~/status showed {codes}, none of {[int(code) for code in fault.status]}")
    if ending[0] not in fault.result:
        trial.problems.append(f"the goal's result is {ending[0]} ({ending[1]}), none of {[int(c) for c in fault.result]}")
    if fault.sentence not in ending[1]:
        trial.problems.append(f"the goal's sentence is {ending[1]!r}, without {fault.sentence!r}")
    return trial


# What the relay makes of a message. Each is a function of a message that gives a message, or None.


def nothing(message):
    return None


class Frozen:
    """The first picture for ever, with fresh stamps."""

    def __init__(self):
        self._data = None

    def __call__(self, image):
        self._data = self._data if self._data is not None else image.data
        image.data = self._data
        return image


def dark(image):
    """A lens cap: what is left is the sensor's noise."""
    image.data = array("B", np.random.default_rng().integers(0, 4, len(image.data), np.uint8).tobytes())
    return image


def blue(image):
    """What a capture device shows without a signal, with noise."""
    colour = np.random.default_rng().normal((0, 0, 230), 5.0, (len(image.data) // 3, 3))
    image.data = array("B", np.clip(colour, 0, 255).astype(np.uint8).tobytes())
    return image


def cut(image):
    image.data = image.data[: len(image.data) // 4]
    return image


class Zigzag:
    """Stamps that are 0.3 s late and early by turns."""

    def __init__(self):
        self._early = False

    def __call__(self, image):
        self._early = not self._early
        stamp = image.header.stamp
        moment = stamp.sec * 10**9 + stamp.nanosec + (3 if self._early else -3) * 10**8
        stamp.sec, stamp.nanosec = divmod(moment, 10**9)
        return image


def later(seconds: float):
    """Stamps of a clock that is ahead (or behind, negative)."""

    def shift(message):
        message.header.stamp.sec += int(seconds)
        return message

    return shift


def jumped(joints):
    joints.position[2] += 1.0  # farther than it could go before joint states would be stale
    return joints


def slipped(joints):
    """Of the shoulder, by less than a jump of a joint; the tip is elsewhere by 3 to 6 cm, which may be one of the tip."""
    joints.position[1] += 0.098
    return joints


class Sagging:
    """As the joint states of an arm that takes up a load: the shoulder gives way, to 0.15 rad within half a second."""

    def __init__(self):
        self._sunk = 0.0

    def __call__(self, joints):
        self._sunk += 0.05 * (0.15 - self._sunk)  # 100 messages a second
        joints.position[1] += self._sunk
        return joints


def not_a_number(joints):
    joints.position[3] = float("nan")
    return joints


def other_names(joints):
    joints.name = [name.replace("panda", "fr3") for name in joints.name]
    return joints


def other_arm(joints):
    """A WidowX at its home, under this arm's names."""
    for i, value in enumerate((0.0, -0.5, 0.6, 0.0, 1.2, 0.0)):
        joints.position[i] = value
    return joints


def falsify(what: str, make: Callable[[], Callable]) -> Callable[[System], None]:
    """The injection that sets a function of the relay; what: image or joint_states."""
    return lambda system: setattr(system.relay, what, make())


def always(function: Callable) -> Callable[[], Callable]:
    return lambda: function


def heal_relay(system: System) -> None:
    system.relay.heal()


# Faults of processes.


def kill(name: str) -> Callable[[System], None]:
    return lambda system: system.signal(name, signal.SIGKILL)


def stop(name: str) -> Callable[[System], None]:
    return lambda system: system.signal(name, signal.SIGSTOP)


def resume(name: str) -> Callable[[System], None]:
    return lambda system: system.signal(name, signal.SIGCONT)


class Starved:
    """vla_node gets the processor for RUN of each RUN + WAIT seconds."""

    RUN, WAIT = 0.1, 1.5

    def inject(self, system: System) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._starve, args=(system.processes["vla_node"].process.pid,))
        self._thread.start()

    def _starve(self, pid: int) -> None:
        while not self._over.is_set():
            os.kill(pid, signal.SIGSTOP)
            self._over.wait(self.WAIT)
            os.kill(pid, signal.SIGCONT)
            self._over.wait(self.RUN)

    def heal(self, system: System) -> None:
        self._over.set()
        self._thread.join()


class Intruder:
    """Commands of a goal of its own, at 5 Hz. anew: each command is of another goal."""

    def __init__(self, anew: bool = False):
        self._anew = anew

    def inject(self, system: System) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._intrude, args=(system,))
        self._thread.start()

    def _intrude(self, system: System) -> None:
        rng = np.random.default_rng()
        goal = rng.integers(0, 256, 16, np.uint8)
        for step in itertools.takewhile(lambda _: not self._over.is_set(), itertools.count()):
            goal = rng.integers(0, 256, 16, np.uint8) if self._anew else goal
            system.command(goal, step, np.array([0.0, 0.02, 0.0]))
            self._over.wait(0.2)

    def heal(self, system: System) -> None:
        self._over.set()
        self._thread.join()
        time.sleep(PERIOD)  # arm_node refuses goals until so long after the conflict, for good


class SecondMaster:
    """Another node that publishes on target_pose; crisp_controllers, and the simulated Franka, then refuse every target."""

    def inject(self, system: System) -> None:
        self._publisher = system.ros.node.create_publisher(PoseStamped, "target_pose", 1)

    def heal(self, system: System) -> None:
        system.ros.node.destroy_publisher(self._publisher)


class OtherDescription:
    """A second robot_description, in which the tip lies 10 cm farther out."""

    def inject(self, system: System) -> None:
        seen = system.ros.listen(String, "robot_description", LATCHED)
        self._own = system.ros.wait_until(lambda: seen, "robot_description")[-1][1]
        robot = ElementTree.fromstring(self._own.data)
        tip = system.values["arm_node"]["tip_link"]
        (origin,) = (joint.find("origin") for joint in robot.iter("joint") if joint.find("child").get("link") == tip)
        x, y, z = map(float, origin.get("xyz").split())
        origin.set("xyz", f"{x} {y} {z + 0.1}")
        self._publish(system, String(data=ElementTree.tostring(robot, encoding="unicode")))

    def heal(self, system: System) -> None:
        self._publish(system, self._own)

    @staticmethod
    def _publish(system: System, description: String) -> None:
        system.ros.publish(String, "robot_description", description, LATCHED)


class SecondJoints:
    """A second publisher of joint_states, by turns with the first: every joint 0.09 rad off, which is no jump."""

    def inject(self, system: System) -> None:
        self._publisher = system.ros.node.create_publisher(JointState, "joint_states", 10)
        system.relay.joint_states = self._both

    def _both(self, joints: JointState) -> JointState:
        other = deepcopy(joints)
        other.position = [position + 0.09 for position in joints.position]
        self._publisher.publish(other)
        return joints

    def heal(self, system: System) -> None:
        heal_relay(system)
        time.sleep(TWO_PLACES)  # arm_node refuses goals until so long after the last turn
        system.ros.node.destroy_publisher(self._publisher)
        recover(system)


def recover(system: System) -> None:
    """What an operator does who has looked after an arm that ran away as its goal began."""
    system.relay.heal()
    end = time.monotonic() + 3.0
    while True:
        time.sleep(0.3)  # where the arm is must be believed again
        answer = system.ros.call(Trigger, "arm_node/recover", Trigger.Request(), 20.0)
        # No robot to recover, says a simulated arm; goals may begin again all the same.
        if answer.success or "knows no way to recover a robot" in answer.message:
            return
        assert time.monotonic() < end, answer.message


STARVED, INTRUDER, USURPER, MASTER, DESCRIPTION = Starved(), Intruder(), Intruder(anew=True), SecondMaster(), OtherDescription()
SECOND_JOINTS = SecondJoints()

HOLD = "tick + braking + delivery"  # from the moment when arm_node sees that something is wrong
FAULTS = (
    Fault(
        "camera stops",
        "its images are no longer delivered",
        falsify("image", always(nothing)),
        f"control_period + command_timeout + {HOLD}",
        (Arm.COMMAND_STALE, Arm.NO_COMMAND),
        (Goal.IMAGE_STALE,),
        heal_relay,
    ),
    Fault(
        "camera freezes",
        "the same picture again and again, with fresh stamps",
        falsify("image", Frozen),
        f"image.timeout + control_period + {HOLD}",
        (Arm.NO_COMMAND,),
        (Goal.IMAGE_FROZEN,),
        heal_relay,
    ),
    Fault(
        "camera goes dark",
        "pictures of noise of 0 to 3 of 255",
        falsify("image", always(dark)),
        f"camera period + control_period + {HOLD}",
        (Arm.NO_COMMAND,),
        (Goal.IMAGE_BLANK,),
        heal_relay,
    ),
    Fault(
        "camera shows one colour",
        "blue with noise, as without a signal",
        falsify("image", always(blue)),
        f"camera period + control_period + {HOLD}",
        (Arm.NO_COMMAND,),
        (Goal.IMAGE_BLANK,),
        heal_relay,
    ),
    Fault(
        "images are cut",
        "a quarter of each arrives",
        falsify("image", always(cut)),
        f"control_period + command_timeout + {HOLD}",
        (Arm.COMMAND_STALE, Arm.NO_COMMAND),
        (Goal.IMAGE_UNDECODABLE,),
        heal_relay,
    ),
    Fault("stamps of the camera zigzag", "0.3 s late and early by turns", falsify("image", Zigzag), "", (), (GOES_ON,), heal_relay),
    Fault(
        "clock of the camera jumps ahead",
        "stamps of its images + 10 s",
        falsify("image", lambda: later(10)),
        f"camera period + control_period + {HOLD}",
        (Arm.NO_COMMAND,),
        (Goal.IMAGE_STALE,),
        heal_relay,
        sentence="in the future",
    ),
    Fault(
        "clock of the camera jumps back",
        "stamps of its images - 10 s",
        falsify("image", lambda: later(-10)),
        f"camera period + control_period + {HOLD}",
        (Arm.NO_COMMAND,),
        (Goal.IMAGE_STALE,),
        heal_relay,
    ),
    Fault(
        "clock of the arm's driver jumps",
        "stamps of joint_states + 10 s",
        falsify("joint_states", lambda: later(10)),
        HOLD,
        (Arm.CLOCK_JUMP, Arm.JOINT_STATES_STALE),
        (Arm.CLOCK_JUMP, Arm.JOINT_STATES_STALE, Goal.JOINT_STATES_STALE),
        heal_relay,
    ),
    Fault(
        "joint states stop",
        "they are no longer delivered",
        falsify("joint_states", always(nothing)),
        f"joint_state_timeout + {HOLD}",
        (Arm.JOINT_STATES_STALE,),
        (Arm.JOINT_STATES_STALE, Goal.JOINT_STATES_STALE),
        heal_relay,
    ),
    Fault(
        "joint states jump",
        "one joint + 1 rad from one message to the next",
        falsify("joint_states", always(jumped)),
        HOLD,
        (Arm.JOINT_STATES_INVALID,),
        (Arm.JOINT_STATES_INVALID,),
        heal_relay,
        sentence="jumped",
    ),
    Fault(
        "an encoder slips",
        "one joint + 0.098 rad from one message to the next",
        falsify("joint_states", always(slipped)),
        HOLD,
        (Arm.ARM_RUNS_AWAY, Arm.JOINT_STATES_INVALID),
        (Arm.ARM_RUNS_AWAY, Arm.JOINT_STATES_INVALID),
        recover,
    ),
    Fault(
        "the arm sags",
        "its shoulder gives way by 0.15 rad, as under a load",
        falsify("joint_states", Sagging),
        f"sinking + {HOLD}",
        (Arm.ARM_RUNS_AWAY,),
        (Arm.ARM_RUNS_AWAY,),
        recover,
        sentence="whether it sags",
    ),
    Fault(
        "two publishers of joint_states",
        "a second one, each joint 0.09 rad off, by turns with the first",
        SECOND_JOINTS.inject,
        f"discovery + {HOLD}",
        (Arm.JOINT_STATES_INVALID, Arm.ARM_RUNS_AWAY, Arm.ARM_DEVIATES),
        (Arm.JOINT_STATES_INVALID, Arm.ARM_RUNS_AWAY, Arm.ARM_DEVIATES),
        SECOND_JOINTS.heal,
    ),
    Fault(
        "joint states are not finite",
        "one joint is NaN",
        falsify("joint_states", always(not_a_number)),
        HOLD,
        (Arm.JOINT_STATES_INVALID,),
        (Arm.JOINT_STATES_INVALID,),
        heal_relay,
        sentence="not finite",
    ),
    Fault(
        "joint states of another arm",
        "another arm's values under this arm's names",
        falsify("joint_states", always(other_arm)),
        HOLD,
        (Arm.JOINT_STATES_INVALID,),
        (Arm.JOINT_STATES_INVALID,),
        heal_relay,
    ),
    Fault(
        "joint states of another arm, other names",
        "another arm's names",
        falsify("joint_states", always(other_names)),
        f"joint_state_timeout + {HOLD}",
        (Arm.JOINT_STATES_STALE,),
        (Arm.JOINT_STATES_STALE,),
        heal_relay,
    ),
    Fault("vla_node is killed", "SIGKILL", kill("vla_node"), f"command_timeout + {HOLD}", (Arm.COMMAND_STALE,), (GONE,)),
    Fault(
        "vla_node is stopped",
        "SIGSTOP",
        stop("vla_node"),
        f"command_timeout + {HOLD}",
        (Arm.COMMAND_STALE,),
        (GOES_ON,),
        resume("vla_node"),
    ),
    Fault(
        "vla_node is slow",
        "it runs for 0.1 s, then waits for 1.5 s, again and again",
        STARVED.inject,
        f"command_timeout + {HOLD}",
        (Arm.COMMAND_STALE,),
        (GOES_ON,),
        STARVED.heal,
    ),
    Fault(
        "arm_node is killed", "SIGKILL", kill("arm_node"), "delivery", (), (Goal.ARM_FAULT,), sentence="arm_node has been silent"
    ),
    Fault(
        "two publishers of command",
        "a second node sends commands of its own, at 5 Hz",
        INTRUDER.inject,
        f"control_period + control_period + {HOLD}",
        (Arm.COMMAND_CONFLICT,),
        (Arm.COMMAND_CONFLICT,),
        INTRUDER.heal,
    ),
    Fault(
        "a second publisher of command, a new goal each time",
        "its goals take over from vla_node's, at 5 Hz",
        USURPER.inject,
        f"control_period + control_period + {HOLD}",
        (Arm.COMMAND_CONFLICT,),
        (Arm.COMMAND_CONFLICT,),
        USURPER.heal,
    ),
    Fault(
        "robot_description changes",
        "another node publishes one with another tip",
        DESCRIPTION.inject,
        HOLD,
        (Arm.DESCRIPTION_CHANGED,),
        (Arm.DESCRIPTION_CHANGED,),
        DESCRIPTION.heal,
        sentence="deactivate and activate",
    ),
    Fault(
        "two publishers of target_pose",
        "a second node announces itself",
        MASTER.inject,
        f"graph period + {HOLD}",
        (Arm.ROBOT_FAULT,),
        (Arm.ROBOT_FAULT,),
        MASTER.heal,
        sentence="one master",
    ),
)
