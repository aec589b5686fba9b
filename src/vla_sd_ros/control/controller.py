# SPDX-License-Identifier: Apache-2.0
"""What arm_node does with commands, joint states and the passing of time.

The controller owns the commanded target. It takes no clock and no topic: every method is told the time `now` [s] of
one steady clock, and `tick` returns the pose to send to the robot.
"""

import math
from dataclasses import dataclass

import numpy as np

from vla_sd_ros.control import holding
from vla_sd_ros.control.blocks import Blocks
from vla_sd_ros.control.codes import Code, Fault
from vla_sd_ros.control.command import Command
from vla_sd_ros.control.config import Config
from vla_sd_ros.control.enabling import EnablingSwitch
from vla_sd_ros.control.ended_goals import EndedGoals
from vla_sd_ros.control.following import FollowWatch
from vla_sd_ros.control.gripper import GripperSwitch
from vla_sd_ros.control.one_master import OneMaster
from vla_sd_ros.control.reach import Kinematics, Reach
from vla_sd_ros.control.target import Reference, beginning, next_target
from vla_sd_ros.control.tracker import Tracker
from vla_sd_ros.control.units import UnitsWatch
from vla_sd_ros.kinematics.pose import Pose

# The longest time that one tick makes up for [s]: after a pause of the process the motion goes on, it does not leap.
LONGEST_TICK = 0.04

INTERRUPTED = Fault(Code.INTERRUPTED, "the arm was held in this goal, so it is over; send it again")
SETTLED = 1.0  # s at rest, after which nothing but the arm itself explains how far it is from the held target


@dataclass(frozen=True)
class Status:
    """What ~/status tells: moving or holding, why, in one sentence, and counts since activation."""

    moving: bool
    code: Code
    message: str
    clipped: int
    refused: int


class ArmController:
    """Composes, clips, interpolates and watches. Sends nothing before the first command: no motion at start."""

    def __init__(self, config: Config, now: float):
        self.config = config
        self.unmeasured = "no joint states have come yet"  # why there is no measured pose; set by who measures
        self.kinematics: Kinematics | None = None  # of the arm; without it nothing is known of the joints
        self.measured: Pose | None = None
        self._measured_joints: np.ndarray | None = None
        self._measured_at = self._ticked_at = self._at_rest_since = now
        self._commanded_at = -math.inf
        self._goal_id: bytes | None = None
        self._tracker: Tracker | None = None
        self._reference = Reference()
        self.letting_go = False  # nothing is sent any more once the target is at rest; commands are refused until then
        self._begun_at = -math.inf
        self._ended = EndedGoals()
        self._blocks = Blocks()
        self.switch = EnablingSwitch()
        self._gripper = GripperSwitch()
        self._follow: FollowWatch | None = None  # of the goal
        self.sent_joints: np.ndarray | None = None  # of the last pose of any tick, though its target was given up since
        self._master = OneMaster()
        self._units = UnitsWatch()
        self._running = False
        self._code, self._message = Code.NO_COMMAND, "no goal has begun"
        self._clipped = self._refused = 0

    def successor(self, now: float) -> "ArmController":
        """What takes over at the next activation: it knows nothing of the arm yet, but which goals are over."""
        after = ArmController(self.config, now)
        after.unmeasured, after.kinematics, after._ended = self.unmeasured, self.kinematics, self._ended
        after._ended.give_up(self._goal_id, Fault(Code.NO_COMMAND, "arm_node was activated again, and the goal of before is over"))
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
        if previous is not None and (why := holding.leapt(previous, pose, dt, self.config.limits)):
            self.release(why)
        elif now - self._at_rest_since > SETTLED:
            if why := holding.moved_away(self._tracker.pose, pose):
                self.release(why)
        elif not self.config.dry_run:  # the target goes on being sent, so the arm may still run away from it
            if fault := self._follow.in_hold(self._tracker.pose, pose, now, self.config.follow):
                self._run_away(fault)

    def command(self, command: Command, now: float) -> float | None:
        """Take one command; returns the opening that the gripper shall have (0.0 or 1.0), None when it stays as it is."""
        if command.hold:
            self._hold(*self._ended.get(command.goal_id, Fault(Code.NO_COMMAND, "vla_node asked to hold")))
            return None
        alone = self._master.see(command, now, self.config.command_timeout)
        self._watch_others(now)
        # Nothing is reported here: the status already names the reason, or it is a single command too many.
        if not alone or not self.measured_is_fresh(now) or self._blocks or self.letting_go:
            self._refused += 1
            if self._blocks:  # else the arm would start on this goal as soon as the block is gone
                self._ended.give_up(command.goal_id, self._blocks.foremost())
            return None
        if command.goal_id in self._ended:
            self._refused += 1
            self._code, self._message = self._ended[command.goal_id]  # a hold or a release may have covered it
            return None
        try:
            command.check(self.config)
        except ValueError as error:
            self._refused += 1
            self._hold(Code.COMMAND_INVALID, f"a command was refused and the arm holds: {error}")
            return None
        if command.goal_id != self._goal_id or self._tracker is None:
            previous = self._begin(command.goal_id, now)
        else:
            previous = self._reference.end(self._tracker.rest_pose)
        target, less = next_target(previous, command, self.measured, self._tracker.pose.position, self.config)
        self._reference.go(target, self._tracker.rest_pose, now, command.period)
        self._clipped += less
        self._running, self._commanded_at = True, now
        self._code, self._message = Code.OK, ""
        wanted = self.config.action_scale * np.concatenate([command.translation, command.rotation])
        if fault := self._units.check(wanted, self.config.max_translation, self.config.max_rotation):
            self.end(fault)
            return None
        return self._gripper.update(command.gripper, self.config.open_above, self.config.close_below)

    def tick(self, now: float) -> Pose | None:
        """Watch the clocks, move the target on, and return the pose to send; None before the first command."""
        dt = min(max(now - self._ticked_at, 0.0), LONGEST_TICK)
        self._ticked_at = now
        self._watch_others(now)
        if self._running and self._joint_states_stale(now):
            self._hold(Code.NO_COMMAND, "the arm stopped when the joint states went stale")
        elif self._running and now - self._commanded_at > self.config.command_timeout:
            self._hold(Code.COMMAND_STALE, f"vla_node sent nothing for {self.config.command_timeout:.3g} s, so the arm holds")
        if self.letting_go and self._tracker.at_rest:  # the pose at rest was sent
            self._tracker, self.letting_go = None, False
        if self._tracker is None:
            return None
        config, goal = self.config, self._reference.at(now, self.measured, self.config)
        limits = config.limits_of_goal(now - self._begun_at) if self._running else config.limits
        box = config.workspace_low, config.workspace_high
        pose = self._tracker.step(goal, dt, limits, *box, config.joints, self._measured_joints)
        self.sent_joints = self.joints
        if self._running or not self._tracker.at_rest:
            self._at_rest_since = now
        if self._tracker.refusal:
            self.end(self._tracker.refusal)
            self._reference.stop()
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
        self.fail(fault)

    def unblock(self, who: str) -> None:
        """What `who` found is right again: the next goal may begin. A hold that was released is told no longer."""
        fault = self._blocks.pop(who, None)
        if fault and fault.code == Code.HELD:
            self._ended.tell_otherwise(fault, INTERRUPTED)  # what still comes of those goals must not tell of a hold
            if self._code == Code.HELD:
                self._code, self._message = Code.NO_COMMAND, "the hold was released: the next goal may move the arm"

    @property
    def ran_away(self) -> bool:
        """Whether no goal begins before `recover`, because the arm moved elsewhere as one began."""
        return "follow" in self._blocks

    def recover(self) -> None:
        """Whoever operates the arm has looked after what moved it elsewhere as a goal began: the next goal may begin."""
        self.unblock("follow")

    def end(self, fault: Fault) -> None:
        """The running goal is over: the arm holds, and refuses what still comes of it. Nothing where none is running."""
        if self._running:
            self._ended[self._goal_id] = fault
            self._hold(*fault)

    def fail(self, fault: Fault) -> None:
        """The goal is over, whether it runs or pauses: the arm holds, and refuses what still comes of it."""
        self.end(fault)
        self._ended.give_up(self._goal_id, fault)

    @property
    def blocked(self) -> bool:
        """Whether no goal may begin at present."""
        return bool(self._blocks)

    def release(self, why: str) -> None:
        """Give up the target: nothing is sent until the next command, which starts from the measured pose."""
        self._running, self._tracker, self.letting_go = False, None, False
        self._reference.stop()
        self._code, self._message = Code.NO_COMMAND, why

    def let_go(self, why: str) -> None:
        """Come to rest, then give up the target; commands until then are refused."""
        self._hold(Code.NO_COMMAND, why)
        self.letting_go = self._tracker is not None

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
            code, message = self._blocks.foremost()
        elif self._joint_states_stale(now):
            code = Code.JOINT_STATES_STALE
            message = f"no usable joint states for {self.config.joint_state_timeout:.3g} s, so the arm holds"
            message += f": {self.unmeasured}" if self.unmeasured else ""
        return Status(code == Code.OK, code, message, self._clipped, self._refused)

    def _begin(self, goal_id: bytes, now: float) -> Pose:
        """A new goal; returns the pose from which its first step starts. The gripper is where the goal before has left it."""
        self._goal_id, self._begun_at, self._units = goal_id, now, UnitsWatch()
        self._ended.clear()
        if self._tracker is None:
            known = self.kinematics and self._measured_joints is not None
            self._tracker = Tracker(self.measured, Reach(self.kinematics, self._measured_joints) if known else None)
        self._follow = FollowWatch(self._tracker.pose, self.measured, now)
        return beginning(self._tracker.rest_pose, self.measured, self.config)

    def _watch_follow(self, measured: Pose, now: float) -> None:
        """Ends the goal when the arm does not go where it is sent; the target stays where it is, whatever the arm does."""
        fault = self._follow.check(self._tracker.pose, measured, now, self.config.follow)
        if fault is None:
            return
        self.end(fault)
        if fault.code == Code.ARM_RUNS_AWAY:
            self._run_away(fault)

    def _run_away(self, fault: Fault) -> None:
        """Send nothing more, at once: what drives the arm elsewhere is the target, and a controller that halts on silence
        stops."""
        self.release(fault.message)
        self._code = fault.code
        self._ended.give_up(self._goal_id, fault)
        if block := self._follow.in_the_way(fault):  # each goal would take the arm as far again
            self._blocks["follow"] = block

    def _hold(self, code: Code, message: str) -> None:
        if self._running:
            self._reference.stop()
        self._running = False
        self._code, self._message = code, message

    def _watch_others(self, now: float) -> None:
        """Whether somebody holds the enabling switch, and whether one node alone commands."""
        for who, fault in (("enable", self.switch.fault(now, self.config)), ("master", self._master.fault(now))):
            if fault:
                self.block(who, fault)
            else:
                self.unblock(who)

    def _joint_states_stale(self, now: float) -> bool:
        return now - self._measured_at > self.config.joint_state_timeout
