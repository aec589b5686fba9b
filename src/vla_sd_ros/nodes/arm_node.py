# SPDX-License-Identifier: Apache-2.0
"""The node that owns the commanded target: deltas of single steps in, a smooth and limited stream of poses out.

In:  command (vla_sd_msgs/EndEffectorCommand), joint_states, robot_description; enable (std_msgs/Bool) where
     enable.required says so; scene_reset (std_msgs/Empty) of a simulator; the services ~/hold (std_srvs/SetBool),
     ~/home_gripper and ~/recover (std_srvs/Trigger).
Out: what the robot's side takes (arms/; by default target_pose, and gripper_command), measured_pose,
     ~/status, ~/motion_forbidden (std_msgs/String: why not even the robot's driver may move it; empty where it may),
     /diagnostics; for viewers commanded_pose and measured_path (view.py).
All decisions are in control/controller.py; this file is the wiring. arm_state.py has where the arm is, arm_report.py what the
node says of itself, recovery.py ~/recover, arm_parameters.py the parameters.
"""

import gc
import sys
import time

import numpy as np
from std_msgs.msg import Bool, Empty, String
from std_srvs.srv import SetBool, Trigger
from vla_sd_msgs.msg import EndEffectorCommand

from vla_sd_ros import arms
from vla_sd_ros.arms.controllers import Controllers
from vla_sd_ros.arms.wiring import Rivals
from vla_sd_ros.control.codes import Code, Fault
from vla_sd_ros.control.controller import ArmController, Command
from vla_sd_ros.kinematics.pose import Pose
from vla_sd_ros.messages.qos import NEWEST
from vla_sd_ros.nodes import arm_parameters
from vla_sd_ros.nodes.arm_report import ArmReport
from vla_sd_ros.nodes.arm_state import ArmState, age_of
from vla_sd_ros.nodes.lifecycle import ManagedNode
from vla_sd_ros.nodes.parameters import OK, STEADY
from vla_sd_ros.nodes.process import run
from vla_sd_ros.nodes.realtime import give_priority_back, spare_collector, take_priority
from vla_sd_ros.nodes.recovery import Recovery

MEASURED_POSE_PERIOD = 0.02  # s
STATUS_PERIOD = 0.1  # s
FORBIDDEN_PERIOD = 0.05  # s


class ArmNode(ManagedNode):
    """Lifecycle node without a GPU that never waits for anything: it must outlive a stuck or crashed vla_node."""

    TABLE = arm_parameters.TABLE

    def __init__(self, name: str, **options):
        self._held: Fault | None = None  # by ~/hold, which holds in every state of the lifecycle until it is released
        super().__init__(name, **options)
        self._hold = self.create_service(SetBool, "~/hold", self._on_hold)
        self.recovery = Recovery(self)
        self._motion_forbidden = self.create_publisher(String, "~/motion_forbidden", NEWEST)
        self.create_timer(FORBIDDEN_PERIOD, self._tell_forbidden, clock=STEADY)

    def check(self, values):
        arm_parameters.check(values)

    def configure(self):
        self._dry = self.values["dry_run"]
        self.controller = ArmController(arm_parameters.config(self.values), time.monotonic())
        before = set(self.publishers)
        self.arm = arms.make_arm(self)
        self.made.append(self.arm.close)
        self._rivals = Rivals(self, [publisher for publisher in self.publishers if publisher not in before])
        self.controllers = Controllers(self)
        self.made += [self.controllers.close, self.recovery.give_up]
        self._gripper = arms.make_gripper(self)
        self.made.append(self._gripper.close)
        self.arm_state, self._commanded = ArmState(self, self.arm), None
        self._report = ArmReport(self, self._gripper)
        self.commands = self.create_subscription(EndEffectorCommand, "command", self._on_command, NEWEST)
        self.create_subscription(Bool, "enable", self._on_enable, NEWEST)
        self.create_subscription(Empty, "scene_reset", self._on_scene_reset, NEWEST)
        self.create_service(Trigger, "~/home_gripper", self._on_home_gripper)
        # Steady time: neither a jump of the system clock nor simulated time may stop or rush the control loop.
        self.create_timer(1.0 / self.values["rate"], self._tick, clock=STEADY)
        self.create_timer(MEASURED_POSE_PERIOD, lambda: self.arm_state.publish(self._commanded), clock=STEADY)
        self.create_timer(STATUS_PERIOD, self._look_after_controllers, clock=STEADY)
        self.create_timer(STATUS_PERIOD, self._report.publish, clock=STEADY)
        if self.values["realtime_priority"]:
            self.made.append(give_priority_back)
            take_priority(self.values["realtime_priority"])
        self.made.append(gc.unfreeze)
        spare_collector()

    def activate(self):
        self.controller = self.controller.successor(time.monotonic())
        self.arm_state.begin_anew()
        self._dry = self.values["dry_run"]
        if self._held:
            self.controller.block("hold", self._held)
        self.arm.rest()
        self.watch_controllers()

    def deactivate(self):
        """Brake smoothly (a fraction of a second), so that the last pose sent is one at rest."""
        self.controller.hold("arm_node was deactivated")
        period = 1.0 / self.values["rate"]
        end = time.monotonic() + self.controller.config.limits.stopping_time() + 2 * period
        while not self.controller.at_rest and time.monotonic() < end:
            time.sleep(period)
            self._tick()
        self._gripper.rest()
        self._report.publish()

    def apply(self, changed):
        if self.state == "unconfigured":
            return
        self.controller.config = arm_parameters.config(self.values)
        if "dry_run" in changed:
            # The target went on without the arm, or the arm is about to be left alone: brake, and the next goal starts from the
            # arm. One that was begun dry must not set out on the arm by itself.
            self.controller.fail(Fault(Code.INTERRUPTED, "dry_run was changed in this goal, so it is over; send it again"))
            self.controller.let_go("dry_run was changed")
            self._gripper.rest()

    def diagnose(self):
        return (OK, "unconfigured", {}) if self.state == "unconfigured" else self._report.diagnose()

    def _on_enable(self, message: Bool) -> None:
        self.controller.switch.see(message.data, time.monotonic())

    def _on_scene_reset(self, message: Empty) -> None:
        """The simulator is about to put the arm elsewhere: the goal is over, and the leap of the joints is no fault."""
        self.arm_state.expect_reset()
        self.controller.end(Fault(Code.NO_COMMAND, "the simulator's scene was reset, so the goal is over"))
        self._report.publish_on_change()

    def _on_hold(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """Hold, in any state of the lifecycle, until the service says otherwise."""
        self._held = Fault(Code.HELD, "the service ~/hold was called, so the arm holds") if request.data else None
        if self.state != "unconfigured":
            if self._held:
                self.controller.block("hold", self._held)
            else:
                self.controller.unblock("hold")
            self._report.publish_on_change()
        self._tell_forbidden()
        response.success = True
        response.message = "the arm holds; call it with data: false to let the next goal move" if self._held else ""
        return response

    def _tell_forbidden(self) -> None:
        """In every state of the lifecycle; who hears nothing must not move the robot either."""
        self._motion_forbidden.publish(String(data=self._forbidden()))

    def _forbidden(self) -> str:
        """What somebody who operates the arm has forbidden; empty where nothing is. No fault is: a way home may lead out of it."""
        if self._held:
            return self._held.message
        if self.values["dry_run"]:
            return "dry_run is on, so nothing moves the robot"
        if self.state in ("active", "inactive"):
            fault = self.controller.switch.fault(time.monotonic(), self.controller.config)
            return fault.message if fault else ""
        return f"{self.get_name()} is {self.state}, and hears no enabling switch" if self.values["enable.required"] else ""

    def _on_home_gripper(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Begin to home the gripper; ~/status tells how that ends."""
        now = time.monotonic()
        if not self.active:
            response.message = f"{self.get_name()} is {self.state}, not active; configure and activate it first"
        elif self.values["dry_run"]:
            response.message = "dry_run is on, so nothing is sent to the gripper"
        elif not self.controller.at_rest:
            response.message = "the arm executes a goal, and homing drops what the gripper holds: wait until it is over"
        elif self.controller.blocked:
            response.message = f"not now: {self.controller.status(now).message}"
        else:
            response.message = self._gripper.home(now)
        response.success = not response.message
        response.message = response.message or "homing has begun; ~/status says when it is over (gripper) or why it failed"
        self._report.publish_on_change()
        return response

    def _on_command(self, message: EndEffectorCommand) -> None:
        if not self.active:
            return
        t, r = message.translation, message.rotation
        command = Command(
            goal_id=message.goal_id.uuid.tobytes(),
            step=message.step,
            frame=message.header.frame_id,
            hold=message.hold,
            translation=np.array([t.x, t.y, t.z]),
            rotation=np.array([r.x, r.y, r.z]),
            gripper=message.gripper,
            period=message.period.sec + 1e-9 * message.period.nanosec,
            age=age_of(self, message.header.stamp),
        )
        self._take_dry_run()  # it may have been set since the last tick
        opening = self.controller.command(command, now := time.monotonic())
        if self.controller.status(now).moving:
            self.arm_state.reset_is_over()
        if opening is not None and not self._dry:
            self._gripper.send(time.monotonic(), opening, command.goal_id)
        self._report.publish_on_change()

    def _tick(self) -> None:
        if not self.active:
            return
        now = time.monotonic()
        self._report.ticked(now)
        self._take_dry_run()
        self._watch_rivals(now)
        pose = self._commanded = self.controller.tick(now)
        if pose is None or self._dry or self.controllers.inactive:
            self.arm.rest()
        else:
            self._send(now, pose)
        self._report.publish_on_change()

    def _take_dry_run(self) -> None:
        """Take the parameter over, once the motion that went on before it was changed has come to rest."""
        if not self.controller.letting_go:
            self._dry = self.values["dry_run"]

    def _watch_rivals(self, now: float) -> None:
        """While another node commands the robot too, the arm comes to rest, then nothing is sent."""
        if rivals := "" if self._dry else self._rivals.fault(now):
            self.controller.block("rivals", Fault(Code.ROBOT_FAULT, rivals))
            self.controller.let_go("the arm had two masters, so its target was given up")
        else:
            self.controller.unblock("rivals")

    def _send(self, now: float, pose: Pose) -> None:
        """Send a target; one that the robot's side did not take is given up when it takes targets again."""
        if fault := self.arm.fault(now):
            self.controller.end(Fault(Code.ROBOT_FAULT, fault))
            if self.controller.at_rest:  # kept, it may be what the robot refuses, and no later goal would move
                self.controller.release(f"its target was given up, because {fault}")
                return
        self.arm.send(now, pose, self.controller.measured, self.controller.joints)

    def _look_after_controllers(self) -> None:
        self.watch_controllers()
        self.recovery.go_on()

    def watch_controllers(self) -> None:
        """No target goes to a controller that is not active, and none is kept for it: the arm may be moved meanwhile."""
        now = time.monotonic()
        self.controllers.poll(now)
        fault = "" if self.values["dry_run"] else self.controllers.fault(now)
        if not fault:
            self.controller.unblock("controller")
            return
        self.controller.block("controller", Fault(Code.ROBOT_FAULT, fault))
        if self._commanded is not None and (self.controllers.inactive or self.controller.at_rest):
            self.controller.release(fault)
        if self.active and self.controllers.inactive and self.controller.measured_is_fresh(now):
            self.arm.leave(self.controller.measured)


def main(args=None):
    """Run arm_node until a signal ends it."""
    sys.exit(run(lambda: ArmNode("arm_node"), args=args))


if __name__ == "__main__":
    main()
