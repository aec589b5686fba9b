# SPDX-License-Identifier: Apache-2.0
"""Small simulated controllers with the documented names, types and behaviour of real ones, moving the robot of a Bench."""

import numpy as np
import pinocchio as pin
from geometry_msgs.msg import PoseStamped, TwistStamped
from panda import NAMES, urdf
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.task import Future
from trajectory_msgs.msg import JointTrajectory

from vla_sd_ros.kinematics.arm import ArmKinematics

DT = 0.01  # s, one tick


class Servo:
    """MoveIt Servo: takes only the kind that it was switched to, for the tip of its IK solver, and tells what it does with it.

    While it is paused (speaks is False) it answers the switch, and neither moves the arm nor sends ~/status, as
    ServoNode::servoLoop does.
    """

    def __init__(self, bench, tip="panda_tcp"):
        from moveit_msgs.msg import ServoStatus
        from moveit_msgs.srv import ServoCommandType

        self.bench, self.kind, self.code, self.speaks = bench, None, 0, True
        self.received, self.before_switch = [], 0
        self.kinematics = ArmKinematics(urdf(), tip, NAMES)
        self._type, self._status = ServoStatus, bench.robot.create_publisher(ServoStatus, "servo_node/status", 10)
        bench.robot.create_service(ServoCommandType, "servo_node/switch_command_type", self._switch)
        for kind, message, topic in ((1, TwistStamped, "delta_twist_cmds"), (2, PoseStamped, "pose_target_cmds")):
            bench.robot.create_subscription(message, f"servo_node/{topic}", lambda m, k=kind: self._take(k, m), 10)

    def _switch(self, request, response):
        self.kind, response.success = request.command_type, True
        return response

    def _take(self, kind, message):
        if kind == self.kind:
            self.received.append(message)
        else:
            self.before_switch += 1

    def step(self):
        if not self.speaks:
            return
        self._status.publish(self._type(code=self.code))
        if self.received and self.code not in (-1, 2, 5, 6):
            q = self.bench.q
            self.bench.q = q + DT * np.linalg.pinv(self.kinematics.jacobian(q)) @ self.twist(self.received[-1])

    def twist(self, message):
        """(6,) of Servo's tip, about that tip, in base axes."""
        if self.kind == 1:
            t = message.twist
            return np.array([t.linear.x, t.linear.y, t.linear.z, t.angular.x, t.angular.y, t.angular.z])
        p, o = message.pose.position, message.pose.orientation
        position, rotation = self.kinematics.forward(self.bench.q)
        turn = pin.log3(pin.Quaternion(o.w, o.x, o.y, o.z).matrix() @ rotation.T)
        return 20.0 * np.concatenate([np.array([p.x, p.y, p.z]) - position, turn])


class TrajectoryController:
    """joint_trajectory_controller of ros2_control with the position interface, on motors that sag by `sag` [rad].

    As its update() and Trajectory::sample() do (branches jazzy and kilted): a message without a stamp begins at the update that
    takes it. Before its first point lies the MEASURED state, or the last command with interpolate_from_desired_state. What
    is commanded is the trajectory one period later. It rejects other joints, ends that move, and times that do not grow.
    """

    def __init__(self, bench, rate=1000.0, sag=0.0, interpolate_from_desired_state=False):
        self.bench, self.sag, self._from_desired = bench, sag, interpolate_from_desired_state
        self._period, self._time = 1.0 / rate, 0.0
        self.received, self.rejected, self.commands = [], 0, [bench.q]
        self._points, self._new = [], None
        bench.robot.create_subscription(JointTrajectory, "joint_trajectory", self._take, 10)

    def _take(self, message):
        times = [point.time_from_start.sec + 1e-9 * point.time_from_start.nanosec for point in message.points]
        if (
            set(message.joint_names) != set(NAMES)
            or not times
            or any(message.points[-1].velocities)
            or any(len(point.positions) != len(NAMES) for point in message.points)
            or np.any(np.diff(times) <= 0.0)
        ):
            self.rejected += 1
        else:
            self.received.append(message)
            self._new = list(zip(times, (np.array(point.positions) for point in message.points)))

    def step(self):
        """The updates of one tick."""
        for _ in range(round(DT / self._period)):
            if self._new:
                begin = (0.0, self.commands[-1] if self._from_desired else self.bench.q)
                self._points = [begin, *self._new] if self._new[0][0] > 0.0 else self._new
                self._time, self._new = 0.0, None
            if self._points:
                times, positions = zip(*self._points)
                at = self._time + self._period
                self.commands.append(np.array([np.interp(at, times, joint) for joint in np.transpose(positions)]))
            self._time += self._period
            self.bench.q = self.commands[-1] - self.sag


class ControllerManager:
    """controller_manager and franka_ros2's hardware: states by name, and what a reflex does to them.

    As in ros2_control (jazzy, kilted): an error of the hardware's read() makes the hardware unconfigured and every controller
    that uses it inactive, joint_state_broadcaster too; and no activity is published of that. As franka_ros2 documents it, the
    way back is the error recovery, then the hardware, then the controllers.
    """

    def __init__(self, node, *names):
        from controller_manager_msgs.msg import ControllerState
        from controller_manager_msgs.srv import ListControllers, SetHardwareComponentState, SwitchController
        from franka_msgs.action import ErrorRecovery

        self._state, self._result = ControllerState, ErrorRecovery.Result
        self.hardware, self.error, self.recoverable = "active", False, True
        self.states, self.calls = dict.fromkeys(names, "active"), []
        for kind, name, callback in (
            (ListControllers, "list_controllers", self._list),
            (SwitchController, "switch_controller", self._switch),
            (SetHardwareComponentState, "set_hardware_component_state", self._set_hardware),
        ):
            node.create_service(kind, f"/controller_manager/{name}", callback)
        self.server = ActionServer(node, ErrorRecovery, "/action_server/error_recovery", self._recover)

    def reflex(self):
        self.error, self.hardware = True, "unconfigured"
        self.states = dict.fromkeys(self.states, "inactive")

    def _list(self, request, response):
        response.controller = [self._state(name=name, state=state) for name, state in self.states.items()]
        return response

    def _switch(self, request, response):
        assert request.strictness == request.STRICT
        self.calls.append(f"activate {', '.join(request.activate_controllers)}")
        response.ok = self.hardware == "active" and set(request.activate_controllers) <= set(self.states)
        response.message = "" if response.ok else "the hardware is not active"
        if response.ok:
            self.states |= dict.fromkeys(request.activate_controllers, "active")
        return response

    def _set_hardware(self, request, response):
        assert request.name == "FrankaHardwareInterface" and request.target_state.label == "active"
        self.calls.append("activate the hardware")
        response.ok = not self.error
        self.hardware = "active" if response.ok else self.hardware
        return response

    def _recover(self, handle):
        self.calls.append("error recovery")
        if self.recoverable:
            self.error = False
            handle.succeed()
        else:
            handle.abort()
        return self._result()


class GripperServer:
    """An action server of a gripper: it accepts every goal, and they run side by side, as in franka_gripper."""

    def __init__(self, bench, kind, name, result=None):
        """result: of each goal; None: goals never return."""
        self.goals, self.cancelled, self.result, self.accepts = [], 0, result, True
        self._server = ActionServer(
            bench.robot,
            kind,
            name,
            self._execute,
            callback_group=ReentrantCallbackGroup(),
            goal_callback=lambda request: GoalResponse.ACCEPT if self.accepts else GoalResponse.REJECT,
            cancel_callback=self._cancel,
        )
        bench.servers.append(self._server)

    def _cancel(self, handle):
        self.cancelled += 1
        return CancelResponse.ACCEPT

    async def _execute(self, handle):
        self.goals.append(handle.request)
        if self.result is None:
            await Future()
        handle.succeed()
        return self.result
