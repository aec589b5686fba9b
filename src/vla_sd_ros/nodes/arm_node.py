# SPDX-License-Identifier: Apache-2.0
"""The node that owns the commanded target: deltas of single steps in, a smooth and limited stream of poses out.

In:  command (vla_sd_msgs/EndEffectorCommand), joint_states, robot_description; enable (std_msgs/Bool) where
     enable.required says so; scene_reset (std_msgs/Empty) of a simulator; the services ~/hold (std_srvs/SetBool),
     ~/home_gripper and ~/recover (std_srvs/Trigger).
Out: what the robot's side takes (arms/; by default target_pose, and gripper_command), measured_pose,
     ~/status, /diagnostics; for viewers commanded_pose and measured_path (view.py).
All decisions are in control/controller.py, the parameters in arm_parameters.py; this file is the wiring.
"""

import gc
import math
import sys
import time

import numpy as np
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Empty, String
from std_srvs.srv import SetBool, Trigger
from vla_sd_msgs.msg import ArmStatus, EndEffectorCommand

from vla_sd_ros import arms, stamps
from vla_sd_ros.arms.controllers import Controllers
from vla_sd_ros.arms.wiring import HERE, Rivals
from vla_sd_ros.control.codes import Code, Fault
from vla_sd_ros.control.controller import ArmController, Command, Status
from vla_sd_ros.control.gripper import State
from vla_sd_ros.control.joint_states import JointStateWatch, late, picked
from vla_sd_ros.kinematics.arm import ArmKinematics
from vla_sd_ros.kinematics.pose import Pose
from vla_sd_ros.messages.poses import stamped
from vla_sd_ros.messages.qos import LATCHED, NEWEST, SENSOR
from vla_sd_ros.nodes import arm_parameters
from vla_sd_ros.nodes.lifecycle import ERROR, OK, STEADY, WARN, ManagedNode, run, sentence
from vla_sd_ros.nodes.realtime import give_priority_back, spare_collector, take_priority
from vla_sd_ros.nodes.view import View

MEASURED_POSE_PERIOD = 0.02  # s
STATUS_PERIOD = 0.1  # s


class ArmNode(ManagedNode):
    """Lifecycle node without a GPU that never waits for anything: it must outlive a stuck or crashed vla_node."""

    TABLE = arm_parameters.TABLE

    def __init__(self, name: str, **options):
        self._held: Fault | None = None  # by ~/hold, which holds in every state of the lifecycle until it is released
        super().__init__(name, **options)
        self._hold = self.create_service(SetBool, "~/hold", self._on_hold)
        self._recovering = False
        # For as long as the node lives: it may be cleaned up while the answer is under way.
        self.create_service(Trigger, "~/recover", self._on_recover)

    def check(self, values):
        arm_parameters.check(values)

    def configure(self):
        self._kinematics: ArmKinematics | None = None
        self._described = self._used = ""  # robot_description: the newest, and the one that is used
        self._dry = self.values["dry_run"]
        self._controller = ArmController(arm_parameters.config(self.values), time.monotonic())
        self._controller.unmeasured = "no robot_description has come yet"
        self._sent_status = None  # ArmController's, the gripper's state and its problem
        self._ticks, self._ticks_since, self._longest_period, self._last_tick = 0, time.monotonic(), 0.0, math.nan
        before = set(self.publishers)
        self._arm = arms.make_arm(self)
        self.made.append(self._arm.close)
        self._rivals = Rivals(self, [publisher for publisher in self.publishers if publisher not in before])
        self._controllers = Controllers(self)
        self.made.append(self._controllers.close)
        self._gripper = arms.make_gripper(self)
        self.made.append(self._gripper.close)
        self._measured = self.create_publisher(PoseStamped, "measured_pose", 10)
        self._view, self._commanded = View(self), None
        self._status = self.create_publisher(ArmStatus, "~/status", LATCHED)
        self.create_subscription(String, "robot_description", self._on_description, LATCHED)
        self.create_subscription(JointState, "joint_states", self._on_joint_states, SENSOR)
        self.create_subscription(EndEffectorCommand, "command", self._on_command, NEWEST)
        self.create_subscription(Bool, "enable", self._on_enable, NEWEST)
        self.create_subscription(Empty, "scene_reset", self._on_scene_reset, NEWEST)
        self.create_service(Trigger, "~/home_gripper", self._on_home_gripper)
        # Steady time: neither a jump of the system clock nor simulated time may stop or rush the control loop.
        self.create_timer(1.0 / self.values["rate"], self._tick, clock=STEADY)
        self.create_timer(MEASURED_POSE_PERIOD, self._publish_measured, clock=STEADY)
        self.create_timer(STATUS_PERIOD, self._watch_controllers, clock=STEADY)
        self.create_timer(STATUS_PERIOD, self._publish_status, clock=STEADY)
        if self.values["realtime_priority"]:
            self.made.append(give_priority_back)
            take_priority(self.values["realtime_priority"])
        self.made.append(gc.unfreeze)
        spare_collector()

    def activate(self):
        self._controller = self._controller.successor(time.monotonic())
        if self._described != self._used:
            self._use_description()
        self._dry = self.values["dry_run"]
        if self._held:
            self._controller.block("hold", self._held)
        self._arm.rest()
        self._watch_controllers()

    def deactivate(self):
        """Brake smoothly (a fraction of a second), so that the last pose sent is one at rest."""
        self._controller.hold("arm_node was deactivated")
        period = 1.0 / self.values["rate"]
        end = time.monotonic() + self._controller.config.limits.stopping_time() + 2 * period
        while not self._controller.at_rest and time.monotonic() < end:
            time.sleep(period)
            self._tick()
        self._gripper.rest()
        self._publish_status()

    def apply(self, changed):
        if self.state == "unconfigured":
            return
        self._controller.config = arm_parameters.config(self.values)
        if "dry_run" in changed:
            # The target went on without the arm, or the arm is about to be left alone: brake, and the next goal starts from the
            # arm. One that was begun dry must not set out on the arm by itself.
            self._controller.fail(Fault(Code.HELD, "dry_run was changed in this goal, so it is over; send it again"))
            self._controller.let_go("dry_run was changed")
            self._gripper.rest()

    def diagnose(self):
        if self.state == "unconfigured":
            return OK, "unconfigured", {}
        now = time.monotonic()
        status = self._controller.status(now)
        rate = self._ticks / (now - self._ticks_since) if now > self._ticks_since else 0.0
        values = {
            "lifecycle state": self.state, "code": int(status.code), "dry_run": self.values["dry_run"],
            "rate of target_pose [Hz]": f"{rate:.1f}", "longest period [ms]": f"{1e3 * self._longest_period:.1f}",
            "commands clipped": status.clipped, "commands refused": status.refused,
            "interfaces": f"{self.values['arm.interface']}, {self.values['gripper.interface']}",
        }
        self._ticks, self._ticks_since, self._longest_period = 0, now, 0.0
        if not self.active:
            return OK, self.state, values
        level = OK if status.code in (Code.OK, Code.NO_COMMAND) else ERROR
        if level == OK and self.values["dry_run"]:
            return WARN, "dry run: nothing is sent to the robot", values
        if level == OK and self._controller.mostly_clipped:
            return WARN, ("most commands are shortened to step.max_translation and step.max_rotation, so the arm does less than "
                          "the policy means: raise them, or lower action_scale"), values
        problem = self._gripper.problem()
        if level == OK and problem:
            return WARN, f"gripper: {problem}", values
        return level, status.message or "moving", values

    def _on_description(self, message: String) -> None:
        """Take the description, but not while it matters: a tip or a base that changes would move the arm."""
        self._described = message.data
        if not self.active or self._kinematics is None:
            self._use_description()
        elif self._described == self._used:
            self._controller.unblock("description")
        else:
            self._controller.block("description", Fault(
                Code.DESCRIPTION_CHANGED, "robot_description changed while arm_node is active, so the arm holds: deactivate and "
                "activate arm_node to take the new one, or look for a second publisher of it"))

    def _use_description(self) -> None:
        self._used = self._described
        try:
            kinematics = ArmKinematics(self._used, self.values["tip_link"], self.values["joint_names"],
                                       self.values["base_frame"])
            self._arm.offset = self._controlled_link(kinematics)
            self._kinematics = kinematics
            self._watch = JointStateWatch(self._kinematics.joint_names, *self._kinematics.position_limits,
                                          self._kinematics.velocity_limits)
            self._controller.unmeasured = "no joint states have come yet"
        except ValueError as error:
            self._kinematics = None
            self.get_logger().error(f"{self.get_name()} cannot use robot_description: {error}")
            self._controller.unmeasured = str(error)
        self._controller.kinematics = self._kinematics

    def _controlled_link(self, kinematics: ArmKinematics) -> Pose:
        """The link that the arm's controller moves, in the axes of tip_link."""
        link = self.values["arm.tip_link"]
        try:
            return Pose(*kinematics.offset(link)) if link else HERE
        except ValueError as error:
            raise ValueError(f"arm.tip_link cannot be the link that the controller moves: {error}") from error

    def _on_joint_states(self, message: JointState) -> None:
        if self._kinematics is None:
            return
        now, stamp = time.monotonic(), message.header.stamp
        try:
            q = picked(self._kinematics.joint_names, message.name, message.position)
        except ValueError as error:
            self._controller.block("joint states", Fault(Code.JOINT_STATES_INVALID, str(error)))
            return
        if q is None:
            return
        if fault := self._watch.check(q, stamp.sec + 1e-9 * stamp.nanosec, now):
            self._controller.block("joint states", fault)
            return
        self._controller.unblock("joint states")
        self._controller.unmeasured = late(self._age(stamp), self.values["joint_state_timeout"])
        if self._controller.unmeasured:
            return  # the last pose goes stale
        self._measured_stamp = stamp if stamp.sec or stamp.nanosec else self.get_clock().now().to_msg()
        self._controller.measure(Pose(*self._kinematics.forward(q)), now, q)

    def _on_enable(self, message: Bool) -> None:
        self._controller.enable(message.data, time.monotonic())

    def _on_scene_reset(self, message: Empty) -> None:
        """The simulator is about to put the arm elsewhere: the goal is over, and the leap of the joints is no fault."""
        if self._kinematics is not None:
            self._watch.forget()
        self._controller.end(Fault(Code.NO_COMMAND, "the simulator's scene was reset, so the goal is over"))
        self._publish_status_on_change()

    def _on_hold(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """Hold, in any state of the lifecycle, until the service says otherwise."""
        self._held = Fault(Code.HELD, "the service ~/hold was called, so the arm holds") if request.data else None
        if self.state != "unconfigured":
            if self._held:
                self._controller.block("hold", self._held)
            else:
                self._controller.unblock("hold")
            self._publish_status_on_change()
        response.success = True
        response.message = "the arm holds; call it with data: false to let the next goal move" if self._held else ""
        return response

    def _on_home_gripper(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Begin to home the gripper; ~/status tells how that ends."""
        now = time.monotonic()
        if not self.active:
            response.message = f"{self.get_name()} is {self.state}, not active; configure and activate it first"
        elif self.values["dry_run"]:
            response.message = "dry_run is on, so nothing is sent to the gripper"
        elif not self._controller.at_rest:
            response.message = "the arm executes a goal, and homing drops what the gripper holds: wait until it is over"
        elif self._controller.blocked:
            response.message = f"not now: {self._controller.status(now).message}"
        else:
            response.message = self._gripper.home(now)
        response.success = not response.message
        response.message = response.message or "homing has begun; ~/status says when it is over (gripper) or why it failed"
        self._publish_status_on_change()
        return response

    def _on_command(self, message: EndEffectorCommand) -> None:
        if not self.active:
            return
        t, r = message.translation, message.rotation
        command = Command(
            goal_id=message.goal_id.uuid.tobytes(), frame=message.header.frame_id, hold=message.hold,
            translation=np.array([t.x, t.y, t.z]), rotation=np.array([r.x, r.y, r.z]), gripper=message.gripper,
            period=message.period.sec + 1e-9 * message.period.nanosec, age=self._age(message.header.stamp))
        self._take_dry_run()  # it may have been set since the last tick
        opening = self._controller.command(command, time.monotonic())
        if opening is not None and not self._dry:
            self._gripper.send(time.monotonic(), opening, command.goal_id)
        self._publish_status_on_change()

    def _age(self, stamp) -> float:
        """Age of what came just now with a stamp, on the node's clock [s]; see stamps.py."""
        now = self.get_clock().now().nanoseconds * 1e-9
        return stamps.age(stamps.seconds(stamp, now), now)

    def _tick(self) -> None:
        if not self.active:
            return
        now = time.monotonic()
        self._ticks += 1
        if not math.isnan(self._last_tick):
            self._longest_period = max(self._longest_period, now - self._last_tick)
        self._last_tick = now
        self._take_dry_run()
        self._watch_rivals(now)
        pose = self._commanded = self._controller.tick(now)
        if pose is None or self._dry or self._controllers.inactive:
            self._arm.rest()
        else:
            self._send(now, pose)
        self._publish_status_on_change()

    def _take_dry_run(self) -> None:
        """Take the parameter over, once the motion that went on before it was changed has come to rest."""
        if not self._controller.letting_go:
            self._dry = self.values["dry_run"]

    def _watch_rivals(self, now: float) -> None:
        """While another node commands the robot too, the arm comes to rest, then nothing is sent."""
        if rivals := "" if self._dry else self._rivals.fault(now):
            self._controller.block("rivals", Fault(Code.ROBOT_FAULT, rivals))
            self._controller.let_go("the arm had two masters, so its target was given up")
        else:
            self._controller.unblock("rivals")

    def _send(self, now: float, pose: Pose) -> None:
        """Send a target; one that the robot's side did not take is given up when it takes targets again."""
        if fault := self._arm.fault(now):
            self._controller.end(Fault(Code.ROBOT_FAULT, fault))
            if self._controller.at_rest:  # kept, it may be what the robot refuses, and no later goal would move
                self._controller.release(f"its target was given up, because {fault}")
                return
        self._arm.send(now, pose, self._controller.measured, self._controller.joints)

    def _watch_controllers(self) -> None:
        """No target goes to a controller that is not active, and none is kept for it: the arm may be moved meanwhile."""
        now = time.monotonic()
        self._controllers.poll(now)
        fault = "" if self.values["dry_run"] else self._controllers.fault(now)
        if not fault:
            self._controller.unblock("controller")
            return
        self._controller.block("controller", Fault(Code.ROBOT_FAULT, fault))
        if self._commanded is not None and (self._controllers.inactive or self._controller.at_rest):
            self._controller.release(fault)
        if self.active and self._controllers.inactive and self._controller.measured_is_fresh(now):
            self._arm.leave(self._controller.measured)

    async def _on_recover(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Bring the robot back after a fault of its own: when somebody asks for it, never by itself."""
        if self.state != "unconfigured" and self._controller.ran_away and not self._controllers.known:
            self._controller.recover()
        elif self.state == "unconfigured" or self.values["dry_run"]:
            response.message = "arm_node is not configured, or dry_run: it sends nothing to the robot"
        elif self._recovering:
            response.message = "a recovery is under way"
        elif not self._controller.at_rest:
            response.message = "the arm moves: cancel the goal first"
        else:
            response.message = await self._bring_back()
        response.success = not response.message
        response.message = response.message or "the next goal may begin, from where the arm is"
        self.get_logger().info(f"~/recover: {response.message}")
        return response

    async def _bring_back(self) -> str:
        """What prevents a recovery, in one sentence; empty where it succeeded."""
        self._recovering = True
        try:
            problem = await self._controllers.recover(lambda: self._controller.measured_is_fresh(time.monotonic()),
                                                      lambda: self._arm.leave(self._controller.measured))
            self._watch_controllers()
            if not problem:
                self._controller.recover()
            return problem
        except Exception as error:
            return sentence(error)
        finally:
            self._recovering = False

    def _publish_measured(self) -> None:
        now = time.monotonic()
        if self.active and self._controller.measured_is_fresh(now):
            measured = stamped(self._controller.measured, self.values["base_frame"], self._measured_stamp)
            self._measured.publish(measured)
            self._view.update(now, self._commanded, measured)

    def _publish_status_on_change(self) -> None:
        if self._statuses() != self._sent_status:
            self._publish_status()

    def _statuses(self) -> tuple[Status, State, str]:
        """Of the arm; the gripper's state and its problem."""
        return self._controller.status(time.monotonic()), self._gripper.state(), self._gripper.problem()

    def _publish_status(self) -> None:
        if not self.active:
            return
        self._gripper.poll(time.monotonic())
        previous, self._sent_status = self._sent_status, self._statuses()
        status, gripper, problem = self._sent_status
        if status.code > Code.NO_COMMAND and (previous is None or previous[0].message != status.message):
            if self._controller.measured is not None:
                self.get_logger().warning(status.message)
            else:
                self.get_logger().info(status.message)  # the robot's side has not started yet
        if problem and (previous is None or previous[2] != problem):
            self.get_logger().warning(f"gripper: {problem}")
        message = ArmStatus(state=ArmStatus.MOVING if status.moving else ArmStatus.HOLDING, code=int(status.code),
                            message=status.message, clipped=status.clipped, refused=status.refused, gripper=int(gripper),
                            gripper_message=problem)
        message.header.stamp = self.get_clock().now().to_msg()
        message.header.frame_id = self.values["base_frame"]
        self._status.publish(message)


def main(args=None):
    sys.exit(run(lambda: ArmNode("arm_node"), args=args))


if __name__ == "__main__":
    main()
