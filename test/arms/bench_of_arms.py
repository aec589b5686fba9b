# SPDX-License-Identifier: Apache-2.0
"""A node with parameters, a robot's node, both over DDS in this process, and time that passes as the test says."""

import time

import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions


class Bench:
    """`node` is what arms/ are made on, `robot` the node of the controllers; `tick` sends and lets both sides work."""

    def __init__(self, domain):
        from panda import HOME, NAMES, urdf

        from vla_sd_ros.kinematics.arm import ArmKinematics
        from vla_sd_ros.kinematics.pose import Pose
        from vla_sd_ros.nodes.arm_node import ArmNode

        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain.id, signal_handler_options=SignalHandlerOptions.NO)
        self.node = rclpy.create_node("arm", context=self.context, namespace="/vla")
        self.robot = rclpy.create_node("robot", context=self.context, namespace="/vla")
        self.node.values = {spec.name: spec.default for spec in ArmNode.TABLE}
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.executor.add_node(self.robot)
        self.kinematics, self._pose = ArmKinematics(urdf(), "panda_tcp", NAMES), Pose
        self.q, self.now = np.array(HOME), 100.0
        self.servers = []  # of actions: a node that is destroyed does not end them

    def joints(self, target):
        """Of a target pose, near those of the robot."""
        return self.kinematics.inverse(target.position, target.rotation, self.q)

    @property
    def pose(self):
        """Of the robot."""
        return self._pose(*self.kinematics.forward(self.q))

    def until(self, condition, what, timeout=60.0):
        """Spin until the condition holds; fails with what was waited for."""
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            assert time.monotonic() < deadline, f"waited {timeout} s in vain for {what}"
            self.executor.spin_once(timeout_sec=0.02)
        return value

    def settle(self, spins=20):
        """Deliver what is under way."""
        for _ in range(spins):
            self.executor.spin_once(timeout_sec=0.005)

    def close(self):
        for server in self.servers:
            server.destroy()
        self.executor.shutdown()
        self.node.destroy_node()
        self.robot.destroy_node()
        self.context.try_shutdown()
