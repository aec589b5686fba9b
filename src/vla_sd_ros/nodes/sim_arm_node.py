# SPDX-License-Identifier: Apache-2.0
"""sim_arm_node: a simulated arm and camera behind the topics of a real arm's driver, to run its launch file without it.

widowx: Interbotix xs_sdk of a WidowX 250 S: commands/joint_group, commands/joint_single, get_robot_info, joint_states,
robot_description; the arm in the mode position, the gripper in pwm, current or linear_position.
franka: a Franka under crisp_controllers: target_pose (it holds on silence, and ignores every target while there is more
than one publisher), joint_states, robot_description, and franka_gripper's actions where their messages are installed.
"""

import functools
import math
import sys
import threading
import time
from pathlib import Path

import numpy as np
import yaml
from geometry_msgs.msg import PoseStamped
from rclpy.action import ActionServer
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64, String

from vla_sd_ros.arms import required
from vla_sd_ros.arms.interbotix import EFFORTS, LINEAR
from vla_sd_ros.messages.poses import pose_of
from vla_sd_ros.messages.qos import LATCHED
from vla_sd_ros.nodes.parameters import OK, STEADY, WARN, ParameterSpec, PlainNode
from vla_sd_ros.nodes.process import run
from vla_sd_ros.sim.arms import Description, PoseFollower, ProfiledMotors

FINGER_SPEED = 0.1  # m/s
EFFORT_SPEED = 0.0004  # m/s of a finger for each unit of an effort, up to FINGER_SPEED
CAMERA_FRAME = "camera_optical_frame"
HORN, ROD = 0.014, 0.024  # m: what the WidowX's gripper motor turns, and what leads from there to each finger


def horn_angle(finger: float) -> float:
    """Of the WidowX's gripper motor [rad], for the position of a finger [m]."""
    return math.asin((HORN**2 + finger**2 - ROD**2) / (2.0 * HORN * finger))


class SimArmNode(PlainNode):
    """See the module's docstring."""

    TABLE = (
        ParameterSpec("robot", "widowx", "Which arm is simulated.", choices=("widowx", "franka"), read_only=True),
        ParameterSpec("prefix", "wx250s", "What the arm's links (and a Franka's joints) begin with.", read_only=True),
        ParameterSpec(
            "modes", "", "widowx: the mode_configs file of the driver; empty: the driver's own default, 2 s.", read_only=True
        ),
        ParameterSpec(
            "gripper_action", "franka_gripper", "franka: what comes before the names of the gripper's actions.", read_only=True
        ),
        ParameterSpec("joint_state_rate", 100.0, "Rate of joint_states [Hz].", 20.0, 200.0, read_only=True),
        ParameterSpec("camera_rate", 5.0, "Rate of image [Hz].", 0.5, 30.0, read_only=True),
        ParameterSpec("image_size", 160, "Width and height of the image [pixels].", 64, 1024, read_only=True),
    )

    def __init__(self, name: str = "sim_arm_node", **options):
        super().__init__(name, **options)
        self._arm = Description(self.values["robot"], self.values["prefix"])
        self._finger, self._finger_goal = float(self._arm.finger_range[1]), float(self._arm.finger_range[1])
        self._finger_speed = FINGER_SPEED
        self._now, self._refusing = time.monotonic(), ""
        self._joint_states = self.create_publisher(JointState, "joint_states", 10)
        self._description = self.create_publisher(String, "robot_description", LATCHED)
        self._image = self.create_publisher(Image, "image", 1)
        self._servers: list[ActionServer] = []
        self._motors: ProfiledMotors | PoseFollower
        (self._start_widowx if self.values["robot"] == "widowx" else self._start_franka)()
        self._description.publish(String(data=self._arm.urdf))
        self.create_timer(1.0 / self.values["joint_state_rate"], self._step, clock=STEADY)
        self._ending = threading.Event()
        # Drawing takes its time, and joint states must go on meanwhile.
        self._camera = threading.Thread(target=self._film, daemon=True)
        self._camera.start()
        self.get_logger().info(f"simulating {self.values['robot']}: {', '.join(self._arm.joints)}")

    def diagnose(self):
        return (WARN, self._refusing, {}) if self._refusing else (OK, "running", {})

    def _start_widowx(self) -> None:
        types = required("interbotix_xs_msgs.msg", "of the simulated WidowX")
        modes = yaml.safe_load(Path(self.values["modes"]).read_text()) if self.values["modes"] else {}
        arm = modes.get("groups", {}).get("arm", {"profile_type": "time", "profile_velocity": 2000})
        self._arm_mode = arm.get("operating_mode", "position")
        if self._arm_mode == "position" and arm.get("profile_type") != "time":
            raise ValueError(f"{self.values['modes']}: the group arm must have profile_type time")
        motors = self._motors = ProfiledMotors(self._arm.home, self._arm.limits, arm.get("profile_velocity", 0) / 1000.0, self._now)
        self._gripper_mode = modes.get("singles", {}).get("gripper", {}).get("operating_mode", "pwm")
        self._info = required("interbotix_xs_msgs.srv", "of the simulated WidowX").RobotInfo
        self.create_service(self._info, "get_robot_info", self._on_info)
        self.create_subscription(types.JointGroupCommand, "commands/joint_group", lambda m: self._on_group(motors, m), 10)
        self.create_subscription(types.JointSingleCommand, "commands/joint_single", self._on_single, 10)

    def _start_franka(self) -> None:
        follower = self._motors = PoseFollower(self._arm, self._now)
        self._target = self.create_subscription(PoseStamped, "target_pose", lambda m: self._on_target(follower, m), 1)
        self.create_subscription(Float64, "gripper_command", lambda m: self._grip(0.04 * m.data), LATCHED)
        widest = 2.0 * self._arm.finger_range[1]
        for module, kind, name, width in (
            ("control_msgs.action", "GripperCommand", "gripper_action", lambda goal: 2.0 * goal.command.position),
            ("franka_msgs.action", "Move", "move", lambda goal: goal.width),
            ("franka_msgs.action", "Grasp", "grasp", lambda goal: goal.width),
            ("franka_msgs.action", "Homing", "homing", lambda goal: widest),
        ):
            try:
                action = getattr(required(module, name), kind)
            except ImportError as error:
                self.get_logger().warning(f"the gripper has no action {name}: {error}")
                continue
            done = functools.partial(self._on_gripper, action.Result, width)
            self._servers.append(ActionServer(self, action, f"{self.values['gripper_action']}/{name}", done))

    def destroy_node(self) -> None:
        """Leave the graph at once; the action servers would hold on to the node."""
        for server in self._servers:
            server.destroy()
        super().destroy_node()

    def _on_info(self, request, response):
        """As xs_sdk: nothing about what it does not know, and of the gripper the left finger."""
        limits = np.empty((0, 3))
        if (request.cmd_type, request.name) == ("group", "arm"):
            response.mode, response.joint_names, limits = self._arm_mode, self._arm.joints, self._arm.limits
        elif (request.cmd_type, request.name) == ("single", "gripper"):
            response.mode, response.joint_names = self._gripper_mode, self._arm.fingers[:1]
            limits = np.array([[*self._arm.finger_range, 1.0]])
        response.joint_lower_limits, response.joint_upper_limits, response.joint_velocity_limits = limits.T.tolist()
        response.num_joints = len(response.joint_names)
        return response

    def _on_group(self, motors: ProfiledMotors, message) -> None:
        if message.name != "arm" or self._arm_mode != "position":
            self.get_logger().error(f"there is no group '{message.name}' in the mode position", throttle_duration_sec=1.0)
            return
        try:
            motors.command(np.array(message.cmd, dtype=float), time.monotonic())
        except ValueError as error:
            self.get_logger().error(f"commands/joint_group is ignored: {error}", throttle_duration_sec=1.0)

    def _on_single(self, message) -> None:
        if message.name != "gripper":
            self.get_logger().error(f"only the gripper is simulated alone, not '{message.name}'", throttle_duration_sec=1.0)
        elif self._gripper_mode in EFFORTS:  # pushes until something stops it, here the end of the way
            low, high = self._arm.finger_range
            self._finger_speed = min(FINGER_SPEED, EFFORT_SPEED * abs(message.cmd))
            self._grip(high if message.cmd > 0.0 else low if message.cmd < 0.0 else self._finger)
        elif self._gripper_mode == LINEAR:  # of the two fingers from each other
            self._grip(0.5 * message.cmd)

    def _on_target(self, follower: PoseFollower, message: PoseStamped) -> None:
        publishers = self.count_publishers(self._target.topic_name)
        self._refusing = f"target_pose is ignored, because {publishers} nodes publish it" if publishers > 1 else ""
        if self._refusing:
            self.get_logger().warning(self._refusing, throttle_duration_sec=1.0)
            return
        try:
            follower.command(pose_of(message.pose))  # crisp ignores frame_id
        except ValueError:
            self.get_logger().error("target_pose is ignored: it is no pose", throttle_duration_sec=1.0)

    def _on_gripper(self, result, width, handle):
        self._grip(0.5 * width(handle.request))
        handle.succeed()
        return result(success=True) if hasattr(result, "success") else result(position=self._finger_goal, reached_goal=True)

    def _grip(self, position: float) -> None:
        if np.isfinite(position):
            self._finger_goal = float(np.clip(position, *self._arm.finger_range))

    def _step(self) -> None:
        now = time.monotonic()
        way = self._finger_speed * (now - self._now)
        self._now = now
        self._finger += float(np.clip(self._finger_goal - self._finger, -way, way))
        self._motors.step(now)
        *joints, left, right = self._positions()
        horn = [] if self.values["robot"] == "franka" else [horn_angle(left)]
        message = JointState(name=[*self._arm.joints, *(["gripper"] if horn else []), *self._arm.fingers])
        message.header.stamp = self.get_clock().now().to_msg()
        message.position = [*joints, *horn, left, right]
        message.velocity = [*self._motors.velocity.tolist(), *(0.0 for _ in [*horn, left, right])]
        self._joint_states.publish(message)

    def _positions(self) -> list[float]:
        return [*self._motors.position.tolist(), self._finger, -self._finger if self._arm.mirrored else self._finger]

    def stop(self) -> None:
        self._ending.set()
        self._camera.join(1.0)

    def _film(self) -> None:
        from vla_sd_ros.sim.arm_view import ArmView

        view = ArmView(self._arm.urdf, self.values["image_size"])
        names = [*self._arm.joints, *self._arm.fingers]
        while not self._ending.wait(1.0 / self.values["camera_rate"]):
            self._show(view.image(names, np.array(self._positions())))

    def _show(self, image: np.ndarray) -> None:
        size = self.values["image_size"]
        message = Image(height=size, width=size, encoding="rgb8", step=3 * size)
        message.header.stamp = self.get_clock().now().to_msg()
        message.header.frame_id = CAMERA_FRAME
        message.data.frombytes(np.ascontiguousarray(image).data)
        self._image.publish(message)


def main() -> int:
    """Entry point of the executable sim_arm_node."""
    return run(SimArmNode)


if __name__ == "__main__":
    sys.exit(main())
