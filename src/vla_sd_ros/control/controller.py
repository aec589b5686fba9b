# SPDX-License-Identifier: Apache-2.0
"""What arm_node does with commands, joint states and the passing of time.

The controller owns the commanded target. It takes no clock and no topic: every method is told the time `now` [s] of
one steady clock, and `tick` returns the pose to send to the robot.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from vla_sd_ros import stamps
from vla_sd_ros.control.clipping import clip_position, clip_step
from vla_sd_ros.control.codes import Code, Fault
from vla_sd_ros.control.following import FollowLimits, FollowWatch, advanced, apart
from vla_sd_ros.control.gripper import GripperSwitch
from vla_sd_ros.control.one_master import OneMaster
from vla_sd_ros.control.reach import JointLimits, Kinematics, Reach
from vla_sd_ros.control.tracker import Limits, Tracker
from vla_sd_ros.control.units import UnitsWatch
from vla_sd_ros.kinematics.pose import Pose, delta_displacement, interpolate
from vla_sd_ros.quoting import quoted

# The longest time that one tick makes up for [s]: after a pause of the process the motion goes on, it does not leap.
LONGEST_TICK = 0.04

# While the arm holds, something else has moved it when it is AWAY from the held target after SETTLED seconds at rest,
# or when it leaps between two joint states, farther than it can go at its limits (a simulator put it elsewhere).
AWAY_DISTANCE, AWAY_ANGLE = 0.05, 0.3  # m, rad
LEAP_DISTANCE, LEAP_ANGLE = 0.01, 0.05  # m, rad
SETTLED = 1.0  # s

MOST_FAILED = 32  # goals that are remembered, of those that came while the arm could not begin one
BLEND_START = 0.1  # share of the velocity limit at which a goal starts

@dataclass(frozen=True, kw_only=True)
class Config:
    """The limits in force. Lengths [m], angles [rad], times [s], base axes; see config/sim.yaml for the effects."""

    base_frame: str = "panda_link0"
    command_timeout: float = 0.5
    joint_state_timeout: float = 0.2
    max_translation: float = 0.05
    max_rotation: float = 0.25
    workspace_low: np.ndarray = field(default_factory=lambda: np.array([0.1, -0.5, -0.05]))
    workspace_high: np.ndarray = field(default_factory=lambda: np.array([0.8, 0.5, 0.9]))
    limits: Limits = Limits(0.6, 5.0, 300.0, 2.5, 20.0, 1200.0)
    open_above: float = 0.55
    close_below: float = 0.45
    action_scale: float = 1.0
    blend_in: float = 0.3
    command_max_age: float = 5.0
    follow: FollowLimits = FollowLimits()
    enable_required: bool = False
    enable_timeout: float = 0.5
    joints: JointLimits = JointLimits()
    dry_run: bool = False  # nothing is sent, so that the arm follows nothing

    def settling_time(self) -> float:
        """A bound on the time from the last command of a running goal to rest [s], not counting one tick."""
        return self.command_timeout + self.limits.stopping_time()


@dataclass(frozen=True)
class Command:
    """One vla_sd_msgs/EndEffectorCommand: translation (3,) [m], rotation (3,) roll, pitch, yaw [rad], period [s]."""

    goal_id: bytes
    frame: str
    hold: bool
    translation: np.ndarray
    rotation: np.ndarray
    gripper: float
    period: float
    age: float = 0.0  # of the image on which it was decided [s], see stamps.py

    def check(self, config: Config) -> None:
        """Raises ValueError, with one sentence, when the command must not be executed."""
        if self.frame != config.base_frame:
            raise ValueError(f"its frame is {quoted(self.frame)}, but this arm's base frame is '{config.base_frame}'")
        for name in ("translation", "rotation", "gripper", "period"):
            if not np.all(np.isfinite(getattr(self, name))):
                raise ValueError(f"its {name} is {getattr(self, name)}, which is not finite")
        if not abs(self.age) <= config.command_max_age:
            raise ValueError(f"the image it was decided on {stamps.told(self.age)}, but command_max_age is "
                             f"{config.command_max_age:.3g} s; see whether the clocks agree")
        if not 0.0 < self.period <= config.command_timeout:
            raise ValueError(f"its period is {self.period:.3g} s, but must be positive and no longer than "
                             f"command_timeout ({config.command_timeout:.3g} s)")


@dataclass(frozen=True)
class Status:
    """What ~/status tells: moving or holding, why, in one sentence, and counts since activation."""

    moving: bool
    code: Code
    message: str
    clipped: int
    refused: int


@dataclass(frozen=True)
class Segment:
    """The reference's way from one target to the next, over a period [s] from a time [s] on."""

    start: Pose
    end: Pose
    begin: float
    period: float

    def at(self, now: float) -> Pose:
        share = (now - self.begin) / self.period if self.period > 0.0 else 1.0
        return interpolate(self.start, self.end, min(max(share, 0.0), 1.0)) if share < 1.0 else self.end


class ArmController:
    """Composes, clips, interpolates and watches. Sends nothing before the first command: no motion at start."""

    def __init__(self, config: Config, now: float):
        self.config = config
        self.unmeasured = "no joint states have come yet"  # why there is no measured pose; set by who measures
        self.kinematics: Kinematics | None = None  # of the arm; without it nothing is known of the joints
        self.measured: Pose | None = None
        self._measured_joints: np.ndarray | None = None
        self._measured_at = now
        self._ticked_at = now
        self._commanded_at = -math.inf
        self._at_rest_since = now
        self._goal_id: bytes | None = None
        self._tracker: Tracker | None = None
        self._segment: Segment | None = None
        self._reached: Pose | None = None  # how far on its way the arm has let the reference come
        self._letting_go = False  # nothing is sent any more once the target is at rest; commands are refused until then
        self._begun_at = -math.inf
        self._failed: dict[bytes, Fault] = {}  # goals that a fault has ended, and that fault; none older than the running one
        self._blocks: dict[str, Fault] = {}  # what is wrong at present, by who found it
        self._enabled_at = -math.inf
        self._gripper = GripperSwitch()
        self._follow: FollowWatch | None = None  # of the goal
        self._master = OneMaster()
        self._units = UnitsWatch()
        self._running = False
        self._code, self._message = Code.NO_COMMAND, "no goal has begun"
        self._clipped = self._refused = 0

    def successor(self, now: float) -> "ArmController":
        """What takes over at the next activation: it knows nothing of the arm yet, but which goals are over."""
        after = ArmController(self.config, now)
        after.unmeasured, after.kinematics, after._failed = self.unmeasured, self.kinematics, self._failed
        after._give_up(self._goal_id, Fault(Code.NO_COMMAND, "arm_node was activated again, and the goal of before is over"))
        return after

    def measure(self, pose: Pose, now: float, joints: np.ndarray | None = None) -> None:
        """Take the measured pose of the end effector, from fresh joint states, and the joint positions (n,) [rad]."""
        if not (np.isfinite(pose.position).all() and np.isfinite(pose.rotation).all()):
            self.unmeasured = "the measured pose is not finite"
            return
        previous, dt = self.measured, now - self._measured_at
        self.measured, self._measured_at, self._measured_joints = pose, now, joints
        if self._running:
            if not self.config.dry_run:
                self._watch_follow(pose, now)
            return
        if self._tracker is None:
            return
        if previous is not None:
            distance, angle = apart(previous, pose)
            limits = self.config.limits
            if (distance > LEAP_DISTANCE + limits.linear_velocity * dt
                    or angle > LEAP_ANGLE + limits.angular_velocity * dt):
                self.release("the arm was put elsewhere while it was holding, so the held target is given up")
                return
        if now - self._at_rest_since <= SETTLED:  # the target goes on being sent, so the arm may still run away from it
            fault = None if self.config.dry_run else self._follow.in_hold(self._tracker.pose, pose, now, self.config.follow)
            if fault:
                self._run_away(fault)
            return
        distance, angle = apart(self._tracker.pose, pose)
        if distance > AWAY_DISTANCE or angle > AWAY_ANGLE:
            self.release(f"the arm moved {distance:.3f} m and {angle:.2f} rad away from the held target, by its controller or "
                         "because something moved it, so that target is given up")

    def command(self, command: Command, now: float) -> float | None:
        """Take one command; returns the opening that the gripper shall have (0.0 or 1.0), None when it stays as it is."""
        if command.hold:
            self._hold(*self._failed.get(command.goal_id, Fault(Code.NO_COMMAND, "vla_node asked to hold")))
            return None
        self._master.see(command.goal_id, now)
        self._watch_enable(now)
        self._watch_master(now)
        # The status says so already.
        if not self.measured_is_fresh(now) or self._blocks or self._letting_go:
            self._refused += 1
            if self._blocks:  # or the arm would set out on this goal as soon as all is well again
                self._give_up(command.goal_id, next(iter(self._blocks.values())))
            return None
        if command.goal_id in self._failed:
            self._refused += 1
            self._code, self._message = self._failed[command.goal_id]  # a hold or a release may have covered it
            return None
        try:
            command.check(self.config)
        except ValueError as error:
            self._refused += 1
            self._hold(Code.COMMAND_INVALID, f"a command was refused and the arm holds: {error}")
            return None
        if command.goal_id != self._goal_id or self._tracker is None:
            self._begin(command.goal_id, now)
            previous = self.measured
        else:
            previous = self._segment.end if self._segment else self._tracker.rest_pose
        start = self._segment.at(now) if self._segment else self._tracker.rest_pose
        self._segment = Segment(start, self._target(previous, command), now, command.period)
        self._reached = self._reached or start
        self._running, self._commanded_at = True, now
        self._code, self._message = Code.OK, ""
        wanted = self.config.action_scale * np.concatenate([command.translation, command.rotation])
        if fault := self._units.check(wanted, self.config.max_translation, self.config.max_rotation):
            self._fail(fault)
            return None
        return self._gripper.update(command.gripper, self.config.open_above, self.config.close_below)

    def tick(self, now: float) -> Pose | None:
        """Watch the clocks, move the target on, and return the pose to send; None before the first command."""
        dt = min(max(now - self._ticked_at, 0.0), LONGEST_TICK)
        self._ticked_at = now
        self._watch_enable(now)
        self._watch_master(now)
        if self._running and self._joint_states_stale(now):
            self._hold(Code.NO_COMMAND, "the arm stopped when the joint states went stale")
        elif self._running and now - self._commanded_at > self.config.command_timeout:
            self._hold(Code.COMMAND_STALE, f"vla_node sent nothing for {self.config.command_timeout:.3g} s, "
                       "so the arm holds")
        if self._letting_go and self._tracker.at_rest:  # the pose at rest was sent
            self._tracker, self._letting_go = None, False
        if self._tracker is None:
            return None
        config = self.config
        limits = config.limits.slowed(self._blend(now)) if self._running else config.limits
        pose = self._tracker.step(self._reference(now), dt, limits, config.workspace_low, config.workspace_high,
                                  config.joints, self._measured_joints)
        if self._running or not self._tracker.at_rest:
            self._at_rest_since = now
        if self._tracker.refusal:
            self._fail(self._tracker.refusal)
            self._segment = self._reached = None
        return pose

    @property
    def joints(self) -> np.ndarray | None:
        """The joint positions (n,) [rad] of the pose that the last tick returned; None while they are unknown."""
        return self._tracker.reach.joints if self._tracker and self._tracker.reach else None

    def hold(self, why: str) -> None:
        """Come to rest as fast as the limits allow, and stay there."""
        self._hold(Code.NO_COMMAND, why)

    def block(self, who: str, fault: Fault) -> None:
        """Something is wrong, by who found it: the arm holds, the goal is over, and none begins until `unblock(who)`."""
        self._blocks[who] = fault
        self._fail(fault)
        self._give_up(self._goal_id, fault)  # if it pauses

    def unblock(self, who: str) -> None:
        """What `who` found is right again: the next goal may begin."""
        self._blocks.pop(who, None)

    @property
    def ran_away(self) -> bool:
        """Whether no goal begins before `recover`, because the arm moved elsewhere as one began."""
        return "follow" in self._blocks

    def recover(self) -> None:
        """Whoever operates the arm has looked after what moved it elsewhere as a goal began: the next goal may begin."""
        self.unblock("follow")

    def fault(self, why: str) -> None:
        """The robot's side does not take what is sent: the arm holds, and the goal is over."""
        self._fail(Fault(Code.ROBOT_FAULT, why))

    def fail(self, fault: Fault) -> None:
        """The goal is over, whether it runs or pauses: the arm holds, and refuses what still comes of it."""
        self._fail(fault)
        self._give_up(self._goal_id, fault)

    @property
    def blocked(self) -> bool:
        """Whether no goal may begin at present."""
        return bool(self._blocks)

    def enable(self, on: bool, now: float) -> None:
        """Take one message of the enabling switch; heeded where the configuration asks for it."""
        self._enabled_at = now if on else -math.inf

    def release(self, why: str) -> None:
        """Give up the target: nothing is sent until the next command, which starts from the measured pose."""
        self._running, self._tracker, self._segment, self._reached, self._letting_go = False, None, None, None, False
        self._code, self._message = Code.NO_COMMAND, why

    def let_go(self, why: str) -> None:
        """Come to rest, then give up the target; commands until then are refused."""
        self._hold(Code.NO_COMMAND, why)
        self._letting_go = self._tracker is not None

    @property
    def letting_go(self) -> bool:
        """Whether the target comes to rest, and is given up then."""
        return self._letting_go

    def abandon(self, why: str) -> None:
        """The goal is over without a fault: the arm holds, and refuses what still comes of this goal."""
        self._fail(Fault(Code.NO_COMMAND, why))

    def measured_is_fresh(self, now: float) -> bool:
        """Whether there is a measured pose from joint states younger than joint_state_timeout."""
        return self.measured is not None and not self._joint_states_stale(now)

    @property
    def mostly_clipped(self) -> bool:
        """Whether most of the goal's newest commands went beyond the limits of one step."""
        return self._running and self._units.mostly_clipped

    @property
    def at_rest(self) -> bool:
        """Whether no motion is under way."""
        return not self._running and (self._tracker is None or self._tracker.at_rest)

    def status(self, now: float) -> Status:
        """The state at this time."""
        code, message = self._code, self._message
        if self._blocks:
            code, message = next(iter(self._blocks.values()))
        elif self._joint_states_stale(now):
            code = Code.JOINT_STATES_STALE
            message = f"no usable joint states for {self.config.joint_state_timeout:.3g} s, so the arm holds"
            message += f": {self.unmeasured}" if self.unmeasured else ""
        return Status(code == Code.OK, code, message, self._clipped, self._refused)

    def _begin(self, goal_id: bytes, now: float) -> None:
        """A new goal: its first step starts from the measured pose. The gripper is where the goal before has left it."""
        self._goal_id, self._begun_at, self._units = goal_id, now, UnitsWatch()
        self._failed.clear()
        if self._tracker is None:
            known = self.kinematics and self._measured_joints is not None
            self._tracker = Tracker(self.measured, Reach(self.kinematics, self._measured_joints) if known else None)
        self._follow = FollowWatch(self._tracker.pose, self.measured, now)

    def _target(self, previous: Pose, command: Command) -> Pose:
        """The new target: the command's delta, clipped, composed onto the previous target, clipped into the box."""
        config = self.config
        wanted = config.action_scale * delta_displacement(command.translation, command.rotation)
        # No step is longer than the arm can go in its period, or the target would run away from the arm.
        velocity = config.limits.axes("velocity")
        step = clip_step(wanted, min(config.max_translation, velocity[0] * command.period),
                         min(config.max_rotation, velocity[-1] * command.period))
        target = previous.moved(step)
        # Against what it presses on the arm does not go on, so its targets must not either; but a moving arm is behind
        # by the whole of the step before.
        held = target if config.dry_run else advanced(
            self.measured, previous, target, config.follow.lead_distance + float(np.linalg.norm(step[:3])),
            config.follow.lead_angle + float(np.linalg.norm(step[3:])))
        position = self._into_box(held.position)
        self._clipped += not (np.array_equal(step, wanted) and held is target
                              and np.array_equal(position, target.position))
        return Pose(position, held.rotation)

    def _reference(self, now: float) -> Pose | None:
        """Where the target goes at this time, not too far ahead of the arm; None: to rest."""
        if self._segment is None:
            return None
        wanted, follow = self._segment.at(now), self.config.follow
        self._reached = wanted if self.config.dry_run else advanced(
            self.measured, self._reached, wanted, follow.lead_distance, follow.lead_angle)
        return self._reached

    def _watch_follow(self, measured: Pose, now: float) -> None:
        """Ends the goal when the arm does not go where it is sent; the target stays where it is, whatever the arm does."""
        fault = self._follow.check(self._tracker.pose, measured, now, self.config.follow)
        if fault is None:
            return
        self._fail(fault)
        if fault.code == Code.ARM_RUNS_AWAY:
            self._run_away(fault)

    def _run_away(self, fault: Fault) -> None:
        """Send nothing more, at once: what drives the arm elsewhere is the target, and a controller that halts on silence
        stops."""
        self.release(fault.message)
        self._code = fault.code
        self._give_up(self._goal_id, fault)
        if self._follow.first:  # each goal would take the arm as far again
            self._blocks["follow"] = fault._replace(message=f"{fault.message}; it moved as the goal began, so none begins "
                                                    "until ~/recover is called or arm_node is activated again")

    def _hold(self, code: Code, message: str) -> None:
        if self._running:
            self._segment = self._reached = None
        self._running = False
        self._code, self._message = code, message

    def _fail(self, fault: Fault) -> None:
        """Hold, and refuse what comes of this goal; without a running goal there is nothing to end."""
        if self._running:
            self._failed[self._goal_id] = fault
            self._hold(*fault)

    def _give_up(self, goal_id: bytes | None, fault: Fault) -> None:
        """Refuse what comes of a goal that does not run."""
        if goal_id is not None and goal_id not in self._failed:
            self._failed[goal_id] = fault
            if len(self._failed) > MOST_FAILED:
                self._failed.pop(next(iter(self._failed)))

    def _watch_enable(self, now: float) -> None:
        if self.config.enable_required and now - self._enabled_at > self.config.enable_timeout:
            self.block("enable", Fault(Code.DISABLED, "the enabling switch is not held, so the arm holds"))
        else:
            self.unblock("enable")

    def _watch_master(self, now: float) -> None:
        if fault := self._master.fault(now):
            self.block("master", fault)
        else:
            self.unblock("master")

    def _blend(self, now: float) -> float:
        """The share of the velocity limit in force: it rises from BLEND_START to 1 while a goal begins."""
        begun, blend_in = now - self._begun_at, self.config.blend_in
        return 1.0 if begun >= blend_in or blend_in <= 0.0 else max(BLEND_START, begun / blend_in)

    def _into_box(self, position: np.ndarray) -> np.ndarray:
        return clip_position(position, self._tracker.pose.position, self.config.workspace_low,
                             self.config.workspace_high)

    def _joint_states_stale(self, now: float) -> bool:
        return now - self._measured_at > self.config.joint_state_timeout
