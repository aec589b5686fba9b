# SPDX-License-Identifier: Apache-2.0
"""A WidowX AI by trossen-arm, whose real-time loop is C++ outside of Python's lock.

It takes joint positions. The arm's controller rejects neither what is no number nor what is beyond its limits, so targets
become joint positions here, within the limits that the controller itself names, or are refused.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pinocchio as pin

from vla_sd_ros.drivers import Reading, RobotError, library
from vla_sd_ros.kinematics.arm import ArmKinematics
from vla_sd_ros.kinematics.pose import Pose

VARIANTS = ("base", "follower", "leader")
LARGEST_STEP = 0.2  # rad: of a joint from one target to the next
SMOOTHING = 0.02  # s, over which the arm's loop spreads a step: two targets of arm_node
FINGER_TIME = 0.5  # s for a move of the fingers
REACHED = 0.05  # rad


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the parameters of wxai_driver of the same names say."""

    address: str
    variant: str = "base"
    clear_error: bool = False
    base: str = "base_link"
    tip: str = "ee_gripper_link"
    joint_names: tuple[str, ...] = tuple(f"joint_{i}" for i in range(6))
    home: tuple[float, ...] = (0.0, 1.07, 0.96, -0.79, 0.0, 0.0)  # the hand at (0.3, 0, 0.17) m, looking 0.9 rad down
    home_speed: float = 0.5  # rad/s
    timeout: float = 10.0  # s, to connect


class WidowXAI:
    """drivers.Robot of a WidowX AI."""

    _driver: Any  # of trossen_arm, which has no types; None while there is no connection, and after stop()
    _id: int  # of the newest output that was read

    def __init__(self, settings: Settings):
        self._trossen = library("trossen_arm", "trossen", "wxai_driver")
        self._settings, self.fault = settings, ""
        self._stopping, self._driver = False, None
        self.fingers = ("left_carriage_joint",)
        self._connect(settings.clear_error)
        end = self._variant()
        limits = self._driver.get_joint_limits()
        self._widest = float(limits[-1].position_max)
        self.description = description(self._driver.get_joints(), limits, list(end.t_flange_tool), settings)
        self._kinematics = ArmKinematics(self.description, settings.tip, settings.joint_names, settings.base)
        self._check_home()
        self._hold()

    def read(self):
        if self.fault or self._stopping or (driver := self._driver) is None:
            return None
        try:
            output = driver.get_robot_output()
        except Exception as error:
            self._fail(error)
            return None
        if output.header.id == self._id:
            return None
        self._id = output.header.id
        arm = output.joint.arm
        return Reading(np.array(arm.positions), np.array(arm.velocities), (float(output.joint.gripper.position),))

    def pose(self, joints):
        return Pose(*self._kinematics.forward(joints))

    def follow(self, target, twist):
        if self.fault:
            return
        if not (np.isfinite(target.position).all() and np.isfinite(target.rotation).all()):
            raise RobotError("the target has a number that is not finite, so it was refused")
        joints = self._kinematics.inverse(target.position, target.rotation, self._commanded)
        if joints is None:
            raise RobotError("no joint positions within the arm's limits lead to the target, so it was refused")
        if (step := np.abs(joints - self._commanded).max()) > LARGEST_STEP:
            raise RobotError(f"the target takes a joint {step:.2f} rad at once, so it was refused")
        self._send(joints, SMOOTHING)

    def rest(self):
        pass  # the arm's loop has come to the last target by itself

    def grip(self, position):
        if self.fault or (driver := self._driver) is None or not np.isfinite(position):
            return
        try:
            driver.set_gripper_position(float(np.clip(position, 0.0, self._widest)), FINGER_TIME, False)
        except Exception as error:
            self._fail(error)

    def gripper_problem(self):
        return ""

    def home(self, forbidden=lambda: ""):
        if self.fault:
            raise RobotError(self.fault)
        there = np.array(self._settings.home)
        away = np.abs(there - self._commanded).max()
        duration = max(1.0, 2.0 * away / self._settings.home_speed)  # the greatest speed of a quintic is about twice the mean
        self._send(there, duration)
        deadline = time.monotonic() + duration + 2.0
        while not self.fault and np.abs(np.array(self._positions()) - there).max() > REACHED:
            late = self._stopping or time.monotonic() > deadline
            if why := forbidden() or ("it was not finished in time" if late else ""):
                self._hold()
                raise RobotError(f"the way home was ended: {why}")
            time.sleep(0.05)
        if self.fault:
            raise RobotError(self.fault)

    def home_gripper(self):
        raise RobotError("the gripper of a WidowX AI needs no homing")

    def recover(self):
        driver, self._driver = self._driver, None  # one that is not connected tells zeros, and no error
        try:
            driver.cleanup()
        except Exception:
            pass  # the connection may be gone
        try:
            self._connect(clear_error=True)
        except RobotError as error:
            self.fault = str(error)
            raise
        if self._stopping:  # it was told to stop while there was nothing to brake
            self.stop()
            raise RobotError("the driver stops")
        self._hold()
        if self.fault:
            raise RobotError(self.fault)

    def stop(self):
        self._stopping = True
        try:
            if not self.fault:
                self._hold()
                time.sleep(0.2)
            self._driver.cleanup()  # brakes the joints
        except Exception:
            pass  # it is on its own now
        self._driver = None

    def _connect(self, clear_error: bool) -> None:
        trossen, s = self._trossen, self._settings
        driver = trossen.TrossenArmDriver()
        try:
            driver.configure(trossen.Model.wxai_v0, self._variant(), s.address, clear_error, timeout=s.timeout)
        except Exception as error:
            said = _told(error)
            if "version" in said.lower():  # trossen-arm has one type of error for all of this: only its words tell
                raise RobotError(
                    f"the arm's firmware does not fit trossen-arm {driver.get_driver_version()} ({said}): install "
                    "the trossen-arm of the firmware's version, or update the firmware"
                ) from error
            raise RobotError(
                f"no WidowX AI answers at '{s.address}', or it reports an error ({said}): see ip_address and the arm's "
                "lights; clear_error:=true clears an error at the start"
            ) from error
        self._driver, self._id, self.fault = driver, -1, ""

    def _variant(self) -> Any:
        return getattr(self._trossen.StandardEndEffector, f"wxai_v0_{self._settings.variant}")

    def _hold(self) -> None:
        """Stay where the arm is."""
        try:
            self._driver.set_all_modes(self._trossen.Mode.position)
            lower, upper = self._kinematics.position_limits
            self._send(np.clip(self._positions(), lower, upper), SMOOTHING)
        except Exception as error:
            self._fail(error)

    def _positions(self) -> np.ndarray:
        return np.array(self._driver.get_arm_positions())

    def _send(self, joints: np.ndarray, duration: float) -> None:
        try:
            self._driver.set_arm_positions(self._trossen.VectorDouble(joints.tolist()), duration, False)
            self._commanded = joints
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if self.fault:
            return
        try:
            more = _told(self._driver.get_error_information())
        except Exception:
            more = ""  # the connection is gone
        said = _told(error)
        self.fault = (
            f"the arm stopped: {said}{f'; it says: {more}' if more and more not in said else ''}; see why, then call "
            "~/recover of wxai_driver"
        )

    def _check_home(self) -> None:
        for name, value, low, high in zip(self._settings.joint_names, self._settings.home, *self._kinematics.position_limits):
            if not low <= value <= high:
                raise RobotError(f"home puts {name} to {value:.3f} rad, but its limits are {low:.3f} .. {high:.3f}")


def description(joints: list, limits: list, tool: list[float], settings: Settings) -> str:
    """A URDF of what the arm's controller says of its joints; tool: position [m] and rotation vector of the tip."""
    parts, parent = [f'<link name="{settings.base}"/>'], settings.base
    for number, (name, joint, limit) in enumerate(zip(settings.joint_names, joints, limits), 1):
        child = f"link_{number}"
        parts.append(
            f'<link name="{child}"/><joint name="{name}" type="revolute"><parent link="{parent}"/><child link="{child}"/>'
            f'{_origin(joint.origin_xyz, joint.origin_rpy)}<axis xyz="{_row(list(joint.axis)[:3])}"/>'
            f'<limit lower="{limit.position_min}" upper="{limit.position_max}" velocity="{limit.velocity_max}" '
            f'effort="{limit.effort_max}"/></joint>'
        )
        parent = child
    turn = pin.rpy.matrixToRpy(pin.exp3(np.array(tool[3:])))
    parts.append(
        f'<link name="{settings.tip}"/><joint name="ee_gripper" type="fixed"><parent link="{parent}"/>'
        f'<child link="{settings.tip}"/>{_origin(tool[:3], turn)}</joint>'
    )
    return f'<robot name="wxai">{"".join(parts)}</robot>'


def _origin(xyz: Any, rpy: Any) -> str:
    return f'<origin xyz="{_row(xyz)}" rpy="{_row(rpy)}"/>'


def _row(values: Any) -> str:
    return " ".join(f"{float(value):.9g}" for value in values)


def _told(error: object) -> str:
    """The library's own sentence, without its pointer to a web page."""
    text = str(error).partition("Please refer to")[0]
    return " ".join(text.split()).rstrip(".") or type(error).__name__
