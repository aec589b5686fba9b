# SPDX-License-Identifier: Apache-2.0
"""An FR3 by franky-control, whose 1 kHz loop is C++ outside of Python's lock.

impedance: franky's Cartesian impedance controller, torques; it holds its last target whatever becomes of this process's
Python. velocity: Cartesian velocities for Franka's own controller, stiffer, with a time limit for each.

Nothing recovers by itself: after a reflex the robot is left alone until `recover`.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_sd_ros.drivers import Reading, RobotError, library
from vla_sd_ros.drivers.franka_description import description
from vla_sd_ros.drivers.franka_hand import Hand, told
from vla_sd_ros.kinematics.arm import ArmKinematics
from vla_sd_ros.kinematics.pose import Pose

MODES = ("impedance", "velocity")
SILENCE = 1.0  # s without a new state of the robot, after which it is gone: as long as libfranka itself waits
HOLD = 1000  # ms that a velocity is kept, where Python says nothing more; `rest` ends it before
STOPPING = 1.0  # s that a stop may take
HOMING_TIME = 30.0  # s
AT_HOME, SETTLING = 0.005, 1.0  # rad, s: until the arm is where its controller has led it


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the parameters of franka_driver of the same names say."""

    address: str
    realtime: bool = True
    mode: str = "impedance"
    base: str = "fr3_link0"
    tip: str = "fr3_hand_tcp"
    joint_names: tuple[str, ...] = tuple(f"fr3_joint{i}" for i in range(1, 8))
    hand: bool = True
    stiffness: tuple[float, float] = (2500.0, 100.0)  # N/m, Nm/rad
    thresholds: tuple[float, float] = (30.0, 20.0)  # N, Nm: beyond which Franka stops the arm
    velocity_gain: float = 5.0  # 1/s
    velocity_dynamics: float = 0.3
    home: tuple[float, ...] = (0.0, -np.pi / 4, 0.0, -3 * np.pi / 4, 0.0, np.pi / 2, np.pi / 4)
    home_dynamics: float = 0.1
    gripper_speed: float = 0.1  # m/s
    gripper_force: float = 20.0  # N


class Franka:
    """drivers.Robot of a Franka."""

    # Objects of franky, which has no types. _robot: None while there is no connection; the others: None while there is none.
    _robot: Any
    _motion: Any
    _target: Any
    _stamp: float  # ms, of the robot's clock
    _heard_at: float  # s, of the steady clock

    def __init__(self, settings: Settings):
        self._franky = library("franky", "franka", "franka_driver")
        self._settings = settings
        self.fault = ""
        self._robot, self._stopping = None, threading.Event()
        self._connect()
        self.description = description(self._robot.model_urdf, settings.joint_names[0].removesuffix("joint1"), settings.hand)
        self._kinematics = ArmKinematics(self.description, settings.tip, settings.joint_names, settings.base)
        _check_home(settings, self._kinematics)
        prefix = settings.joint_names[0].removesuffix("joint1")
        self._hand = Hand(self._franky, settings.address, settings.gripper_speed, settings.gripper_force) if settings.hand else None
        self.fingers = tuple(f"{prefix}finger_joint{i}" for i in (1, 2)) if self._hand else ()
        self._take_control()

    def read(self):
        if (robot := self._robot) is None:
            return None  # a new connection is being made
        try:
            state = robot.state
        except Exception as error:
            self._fail(f"no connection to the robot: {told(error)}")
            return None
        now, stamp = time.monotonic(), state.time.to_msec()
        if stamp == self._stamp:
            if now - self._heard_at > SILENCE:
                self._fail("the robot says nothing any more: see its network cable and its control box")
            return None
        self._stamp, self._heard_at = stamp, now
        if self._controlled and not self.fault and not robot.is_in_control and not self._resting:
            self._fail(self._why_ended(state))
        width = (self._hand.width / 2.0,) * 2 if self._hand else ()
        return Reading(np.array(state.q), np.array(state.dq), width)

    def pose(self, joints):
        return Pose(*self._kinematics.forward(joints))

    def follow(self, target, twist):
        if self.fault or not self._controlled:
            return
        try:
            (self._track if self._settings.mode == "impedance" else self._drive)(self._controlled_link(target), twist)
        except Exception as error:
            self._fail(told(error))

    def rest(self):
        if self.fault or not self._controlled or self._target is None:
            return
        target, self._target = self._target, None
        try:
            if self._settings.mode == "impedance":
                self._motion.set_reference(self._franky.CartesianReference(target=target))
            elif self._robot.is_in_control:
                self._resting = True
                self._robot.move(self._franky.CartesianVelocityStopMotion(), asynchronous=True)
        except Exception as error:
            self._fail(told(error))

    def grip(self, position):
        if self._hand:
            self._hand.want(position)

    def gripper_problem(self):
        return self._hand.problem if self._hand else ""

    def home(self, forbidden=lambda: ""):
        if self.fault:
            raise RobotError(self.fault)
        franky, settings = self._franky, self._settings
        self._give_control_up()
        try:
            self._robot.move(
                franky.JointMotion(list(settings.home), relative_dynamics_factor=settings.home_dynamics), asynchronous=True
            )
            deadline = time.monotonic() + HOMING_TIME
            while not self._robot.join_motion(0.05):
                late = self._stopping.is_set() or time.monotonic() > deadline
                if why := forbidden() or (f"it was not finished within {HOMING_TIME:.0f} s" if late else ""):
                    self._robot.move(franky.JointStopMotion(), asynchronous=True)
                    self._robot.join_motion(STOPPING)
                    raise RobotError(f"the way home was ended: {why}")
            deadline = time.monotonic() + SETTLING
            while np.abs(np.array(self._robot.state.q) - settings.home).max() > AT_HOME and time.monotonic() < deadline:
                time.sleep(0.01)
        except RobotError:
            raise
        except Exception as error:
            self._fail(told(error))
            raise RobotError(self.fault) from error
        finally:
            if not self.fault and not self._stopping.is_set():
                self._take_control()

    def home_gripper(self):
        if not self._hand:
            raise RobotError("this arm carries no hand (parameter hand)")
        self._hand.home()

    def recover(self):
        self._controlled, self.fault = False, ""
        try:
            if time.monotonic() - self._heard_at > SILENCE:
                self._robot = None  # of the old connection, before there is a new one
                self._connect()
            else:
                self._end_control()
                self._robot.recover_from_errors()
        except RobotError as error:
            self._fail(str(error))
            raise
        except Exception as error:
            self._fail(told(error))
            raise RobotError(self.fault) from error
        mode = self._robot.state.robot_mode.name
        if mode not in ("Idle", "Move"):
            self._fail(_MODES.get(mode, f"the robot is in the mode {mode}"))
            raise RobotError(self.fault)
        self._take_control()

    def stop(self):
        self._stopping.set()
        if self._hand:
            self._hand.close()
        try:
            if not self.fault:
                self._give_control_up()
        except Exception:
            pass  # it is on its own now; Franka stops an arm whose client is gone
        self._robot = self._hand = None  # the robot takes one client at a time

    # Control

    def _connect(self) -> None:
        self._robot, state = _connected(self._franky, self._settings)
        self._stamp, self._heard_at = state.time.to_msec(), time.monotonic()
        self._controlled = self._resting = False
        self._target = self._motion = None

    def _take_control(self) -> None:
        """Hold the arm where it is. The controlled frame is Desk's end effector: where it lies in the tip is measured now."""
        state = self._robot.state
        here, tip = _pose(state.O_T_EE), self.pose(np.array(state.q))
        self._offset = Pose(tip.rotation.T @ (here.position - tip.position), tip.rotation.T @ here.rotation)
        self._target, self._resting = None, False
        try:
            if self._settings.mode == "impedance":
                move, turn = self._settings.stiffness
                self._motion = self._franky.CartesianImpedanceTrackingMotion(
                    translational_stiffness=move, rotational_stiffness=turn
                )
                self._motion.set_reference(self._franky.CartesianReference(target=state.O_T_EE))
                self._robot.move(self._motion, asynchronous=True)
            else:
                self._resting = True  # it begins with the first target
        except Exception as error:
            self._fail(told(error))
            raise RobotError(self.fault) from error
        self._controlled = True

    def _give_control_up(self) -> None:
        """Come to rest, and let Franka's own controller hold the arm."""
        self._controlled = False
        if self._robot.is_in_control:
            impedance = self._settings.mode == "impedance"
            stop = self._franky.TorqueStopMotion(max_duration=STOPPING) if impedance else self._franky.CartesianVelocityStopMotion()
            self._robot.move(stop, asynchronous=True)
        self._end_control()

    def _end_control(self) -> None:
        try:
            self._robot.join_motion(STOPPING + 0.5)
        except self._franky.ControlException:
            pass  # known already, or the end of what was asked to end

    def _track(self, target: Pose, twist: np.ndarray) -> None:
        self._target = self._affine(target)
        moving = self._franky.Twist(twist[:3], twist[3:])
        self._motion.set_reference(self._franky.CartesianReference(target=self._target, target_twist=moving))

    def _drive(self, target: Pose, twist: np.ndarray) -> None:
        franky, settings = self._franky, self._settings
        self._target = self._affine(target)
        there = _pose(self._robot.state.O_T_EE).displacement_to(target)
        wanted = twist + settings.velocity_gain * there
        if self._resting and self._robot.is_in_control:
            return  # it is still coming to rest
        if self._resting:
            self._end_control()
        self._robot.move(
            franky.CartesianVelocityMotion(
                franky.Twist(wanted[:3], wanted[3:]),
                duration=franky.Duration(HOLD),
                relative_dynamics_factor=settings.velocity_dynamics,
            ),
            asynchronous=True,
        )
        self._resting = False

    def _controlled_link(self, target: Pose) -> Pose:
        return target.attached(self._offset)

    def _affine(self, pose: Pose) -> Any:
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = pose.rotation, pose.position
        return self._franky.Affine(matrix)

    # Faults

    def _fail(self, why: str) -> None:
        self.fault = self.fault or f"{why}; see why, then call ~/recover of franka_driver"
        self._controlled = False

    def _why_ended(self, state: Any) -> str:
        """Franka's own words for the end of control."""
        said = ""
        try:
            self._robot.join_motion(STOPPING)
        except Exception as error:
            said = told(error)
        mode, errors = state.robot_mode.name, state.last_motion_errors
        reason = said or _MODES.get(mode, "Franka ended the control of the arm")
        # Only for the sentence, of which libfranka may have put the errors in brackets already; nothing is decided by it.
        return reason if "[" in reason or not str(errors).strip("[]") else f"{reason}: {errors}"


_MODES = {
    "UserStopped": "the robot's stop button is pressed, or its enabling device is not",
    "Guiding": "somebody guides the arm by hand",
    "Reflex": "a reflex of the robot",
    "AutomaticErrorRecovery": "the robot is recovering from an error",
}


def _check_home(settings: Settings, kinematics: ArmKinematics) -> None:
    lower, upper = kinematics.position_limits
    for name, value, low, high in zip(settings.joint_names, settings.home, lower, upper):
        if not low <= value <= high:
            raise RobotError(f"home puts {name} to {value:.3f} rad, but its limits are {low:.3f} .. {high:.3f}")


def _connected(franky: Any, settings: Settings) -> tuple[Any, Any]:
    """franky's robot, and its state at the beginning. Raises RobotError with what the user can mend."""
    force, torque = settings.thresholds
    realtime = franky.RealtimeConfig.Enforce if settings.realtime else franky.RealtimeConfig.Ignore
    try:
        with _own_priority():
            robot = franky.Robot(
                settings.address, default_torque_threshold=torque, default_force_threshold=force, realtime_config=realtime
            )
        return robot, robot.state
    except franky.RealtimeException as error:
        raise RobotError(
            f"this computer keeps no real time, and a Franka needs a client that does ({told(error)}): boot a PREEMPT_RT kernel; "
            "realtime:=ignore is for a simulator"
        ) from error
    except franky.IncompatibleVersionException as error:
        raise RobotError(
            f"the robot's system does not fit this libfranka ({told(error)}): franky-control's documentation has the table of "
            "versions"
        ) from error
    except Exception as error:
        raise RobotError(
            f"no Franka answers at '{settings.address}' ({told(error)}): see robot_ip, the cable, and whether FCI is activated and "
            "the joints are unlocked in Desk"
        ) from error


@contextmanager
def _own_priority() -> Iterator[None]:
    """franky gives the thread that connects the highest real-time priority, and all that it starts later inherit it. Then Python
    keeps libfranka's loop waiting, which takes that priority itself; so this thread gets back what it had.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def _pose(affine: Any) -> Pose:
    matrix = np.asarray(affine.matrix)
    return Pose(matrix[:3, 3].copy(), matrix[:3, :3].copy())
