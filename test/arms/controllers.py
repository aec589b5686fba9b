# SPDX-License-Identifier: Apache-2.0
"""Small simulated controllers with the documented names, types and behaviour of real ones, moving the robot of a Bench."""

import numpy as np
import pinocchio as pin
from conftest import DT
from geometry_msgs.msg import PoseStamped, TwistStamped
from panda import NAMES
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.task import Future
from trajectory_msgs.msg import JointTrajectory


class Servo:
    """MoveIt Servo: takes only the kind that it was switched to, and tells in ~/status what it does with it."""

    def __init__(self, bench):
        from moveit_msgs.msg import ServoStatus
        from moveit_msgs.srv import ServoCommandType

        self.bench, self.kind, self.code, self.speaks = bench, None, 0, True
        self.received, self.before_switch = [], 0
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
        if self.speaks:
            self._status.publish(self._type(code=self.code))
        if self.received and self.code not in (-1, 2, 5, 6):
            q = self.bench.q
            self.bench.q = q + DT * np.linalg.pinv(self.bench.kinematics.jacobian(q)) @ self._twist(self.received[-1])

    def _twist(self, message):
        if self.kind == 1:
            t = message.twist
            return np.array([t.linear.x, t.linear.y, t.linear.z, t.angular.x, t.angular.y, t.angular.z])
        p, o = message.pose.position, message.pose.orientation
        position, rotation = self.bench.kinematics.forward(self.bench.q)
        turn = pin.log3(pin.Quaternion(o.w, o.x, o.y, o.z).matrix() @ rotation.T)
        return 20.0 * np.concatenate([np.array([p.x, p.y, p.z]) - position, turn])


class TrajectoryController:
    """joint_trajectory_controller: each message replaces the trajectory; rejects other joints and ends that move."""

    def __init__(self, bench):
        self.bench, self.received, self.rejected = bench, [], 0
        bench.robot.create_subscription(JointTrajectory, "joint_trajectory", self._take, 10)

    def _take(self, message):
        (point,) = message.points
        if set(message.joint_names) != set(NAMES) or any(point.velocities) or len(point.positions) != len(NAMES):
            self.rejected += 1
        else:
            self.received.append(point)

    def step(self):
        if self.received:
            point = self.received[-1]
            time = point.time_from_start.sec + 1e-9 * point.time_from_start.nanosec
            self.bench.q = self.bench.q + DT / time * (np.array(point.positions) - self.bench.q)


class GripperServer:
    """An action server of a gripper: it accepts every goal, and they run side by side, as in franka_gripper."""

    def __init__(self, bench, kind, name, result=None):
        """result: of each goal; None: goals never return."""
        self.goals, self.cancelled, self.result, self.accepts = [], 0, result, True
        self._server = ActionServer(
            bench.robot, kind, name, self._execute, callback_group=ReentrantCallbackGroup(),
            goal_callback=lambda request: GoalResponse.ACCEPT if self.accepts else GoalResponse.REJECT,
            cancel_callback=self._cancel)
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
