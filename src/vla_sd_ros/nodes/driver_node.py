# SPDX-License-Identifier: Apache-2.0
"""What the drivers of arms by pip share: a robot of drivers/ behind the topics that arm_node knows.

In:  target_pose (geometry_msgs/PoseStamped), gripper_command (std_msgs/Float64); arm_node/motion_forbidden (std_msgs/String): why
     the robot must not go home; empty where it may.
Out: joint_states, robot_description, robot_fault (std_msgs/String, latched: why the robot takes no targets, or empty).
Services (std_srvs/Trigger): ~/recover after a fault, never by itself; ~/home; ~/home_gripper.
"""

import math
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.task import Future
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, String
from std_srvs.srv import Trigger

from vla_sd_ros.drivers import Robot, RobotError
from vla_sd_ros.drivers.gate import Gate, Reach
from vla_sd_ros.kinematics.pose import Pose
from vla_sd_ros.messages.poses import pose_of
from vla_sd_ros.messages.qos import LATCHED, NEWEST
from vla_sd_ros.nodes.answers import answering_later
from vla_sd_ros.nodes.parameters import ERROR, OK, STEADY, WARN, ParameterSpec, PlainNode
from vla_sd_ros.nodes.process import sentence

SILENCE = 1.0  # s, after which what arm_node said last does not count
GRAPH_PERIOD = 0.5  # s, between two looks at who publishes targets

SHARED = (
    ParameterSpec("joint_state_rate", 100.0, "Rate of joint_states [Hz].", 50.0, 500.0, read_only=True),
    ParameterSpec(
        "target.max_distance", 0.15, "Distance of a target from the arm at which it is refused [m].", 0.01, 0.5, read_only=True
    ),
    ParameterSpec("target.max_angle", 0.9, "The same for the rotation [rad].", 0.05, 3.0, read_only=True),
)


class DriverNode(PlainNode):
    """See the module's docstring. A derived class has `connect`, TABLE with base_frame and joint_names, and SHARED in it."""

    def __init__(self, name: str, **options):
        super().__init__(name, **options)
        self._robot: Robot = self.connect()
        self._gate = Gate(Reach(self.values["target.max_distance"], self.values["target.max_angle"]))
        self._measured: Pose | None = None
        self._told: str | None = None
        self._others = ""
        self._looked_at, self._moved_at = -math.inf, -math.inf
        self._last: Pose | None = None  # target
        self._forbidden, self._heard_at = "", -math.inf  # what arm_node said last, and when
        self._busy = ""  # what the robot does by itself at present
        self._ended: SimpleQueue[tuple[Trigger.Response, Future]] = SimpleQueue()  # what it has done, to be answered
        self._names = [*self.values["joint_names"], *self._robot.fingers]
        self._joint_states = self.create_publisher(JointState, "joint_states", 10)
        self._description = self.create_publisher(String, "robot_description", LATCHED)
        self._fault = self.create_publisher(String, "robot_fault", LATCHED)
        self._description.publish(String(data=self._robot.description))
        self._target = self.create_subscription(PoseStamped, "target_pose", self._on_target, NEWEST)
        self.create_subscription(Float64, "gripper_command", self._on_gripper, LATCHED)
        self._arm_node = self.create_subscription(String, "arm_node/motion_forbidden", self._on_forbidden, NEWEST)
        for service, act, doing in (
            ("~/recover", self._recover, "the robot is recovering"),
            ("~/home", self._home, "the arm goes to its home posture"),
            ("~/home_gripper", self._home_gripper, "the gripper is homing"),
        ):
            answering_later(self.create_service(Trigger, service, self._service(act, doing)))
        self.create_timer(1.0 / self.values["joint_state_rate"], self._step, clock=STEADY)
        self.get_logger().info(f"driving {', '.join(self.values['joint_names'])}")

    def connect(self) -> Robot:
        """Override: the robot, with control of it. RobotError or ValueError, one sentence."""
        raise NotImplementedError

    def diagnose(self):
        fault, problem = self._why_not(), self._robot.gripper_problem()
        if fault:
            return ERROR, fault, {}
        return (WARN, f"gripper: {problem}", {}) if problem else (OK, "driving", {})

    def stop(self) -> None:
        self._robot.stop()

    def _step(self) -> None:
        now = time.monotonic()
        if not self._ended.empty():
            self._finish(*self._ended.get())
        reading = self._robot.read()
        if reading is not None:
            self._measured = self._robot.pose(reading.joints)
            message = JointState(name=self._names)
            message.header.stamp = self.get_clock().now().to_msg()
            message.position = [*reading.joints.tolist(), *reading.fingers]
            message.velocity = [*reading.velocities.tolist(), *(0.0 for _ in reading.fingers)]
            self._joint_states.publish(message)
        if self._others:  # arm_node sends nothing before it hears that there is one master again
            self._others = self._masters(now)
        if not self._busy:
            if self._gate.pausing(now):
                self._robot.rest()
            elif (target := self._gate.standing(now)) is not None:
                self._follow(target, np.zeros(6))
        self._tell()

    def _on_target(self, message: PoseStamped) -> None:
        now = time.monotonic()
        if self._measured is None or self._busy or self._robot.fault:
            self._gate.shut()
            return
        self._others = self._masters(now)
        try:
            if message.header.frame_id != self.values["base_frame"]:
                raise ValueError(f"its frame is {message.header.frame_id!r}, but must be {self.values['base_frame']!r}")
            target = pose_of(message.pose)
        except ValueError as error:
            self.get_logger().error(f"target_pose is ignored: {error}", throttle_duration_sec=1.0)
            return
        if self._others:
            self._gate.shut()
            return
        stamp = message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec
        twist = self._gate.admit(target, self._measured, stamp, now)
        if twist is not None:
            if self._last is None or abs(self._last.displacement_to(target)).max() > 1e-4:
                self._last, self._moved_at = target, now
            self._follow(target, twist)
        self._tell()

    def _follow(self, target: Pose, twist: np.ndarray) -> None:
        try:
            self._robot.follow(target, twist)
        except RobotError as error:
            self._gate.refuse(str(error))

    def _masters(self, now: float) -> str:
        """Two nodes that command one arm: it obeys neither."""
        if now - self._looked_at < GRAPH_PERIOD:
            return self._others
        self._looked_at = now
        publishers = self.count_publishers(self._target.topic_name)
        return f"{publishers} nodes publish {self._target.topic_name}: the arm must have one master" if publishers > 1 else ""

    def _on_gripper(self, message: Float64) -> None:
        if not math.isfinite(message.data):
            self.get_logger().warning(f"gripper_command {message.data} is ignored: it is not finite")
            return
        self._robot.grip(message.data)

    def _why_not(self) -> str:
        """Why the robot takes no targets at present."""
        return self._robot.fault or self._busy or self._others or self._gate.refusal

    def _tell(self) -> None:
        """robot_fault, where it has changed."""
        if (fault := self._why_not()) != self._told:
            if fault:
                self.get_logger().warning(fault)
            self._told = fault
            self._fault.publish(String(data=fault))

    # Services

    def _service(self, act: Callable[[], None], doing: str) -> Callable:
        """A callback that answers when `act` has ended in a thread: joint states go on meanwhile."""

        def answer(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response | Future:
            if self._busy:
                response.message = f"not now: {self._busy}"
                return response
            done: Future = Future()
            self._busy = doing
            self._tell()
            threading.Thread(target=self._run, args=(act, response, done), daemon=True).start()
            return done

        return answer

    def _run(self, act: Callable[[], None], response: Trigger.Response, done: Future) -> None:
        try:
            act()
        except RobotError as error:
            response.message = str(error)
        except Exception as error:  # whatever it is, the caller waits for an answer
            response.message = sentence(error)
        response.success = not response.message
        self._ended.put((response, done))

    def _finish(self, response: Trigger.Response, done: Future) -> None:
        self.get_logger().info(f"{self._busy}: {response.message or 'done'}")
        self._busy = ""
        self._gate.shut()
        self._tell()  # before the answer, after which a goal may begin
        done.set_result(response)

    def _recover(self) -> None:
        self._robot.recover()

    def _home(self) -> None:
        self._ask_arm_node()
        if time.monotonic() - self._moved_at < 0.5:
            raise RobotError("a goal moves the arm: cancel it first")
        self._robot.home(self._why_not_home)

    def _home_gripper(self) -> None:
        self._ask_arm_node()
        self._robot.home_gripper()

    def _on_forbidden(self, message: String) -> None:
        self._forbidden, self._heard_at = message.data, time.monotonic()

    def _silent(self) -> bool:
        return time.monotonic() - self._heard_at > SILENCE

    def _why_not_home(self) -> str:
        """Why the robot must not move by itself: a hold, dry_run, the enabling switch, or nobody knows of them."""
        if self._silent():
            return f"nothing comes on {self._arm_node.topic_name}, and only arm_node knows whether the arm is held: start it"
        return self._forbidden

    def _ask_arm_node(self) -> None:
        """RobotError where the robot must not move by itself; arm_node's word may be on its way."""
        end = time.monotonic() + SILENCE
        while self._silent() and time.monotonic() < end:
            time.sleep(0.02)
        if why := self._why_not_home():
            raise RobotError(f"not now: {why}")
