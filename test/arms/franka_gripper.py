# SPDX-License-Identifier: Apache-2.0
"""franka_gripper over DDS: the actions of franka_hand's server, in real time."""

import time

from franka_hand import Server
from rclpy.action import ActionServer, CancelResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.task import Future

PERIOD = 0.005  # s


class FrankaGripperNode:
    """Of one hand; `name` comes before the names of the actions."""

    def __init__(self, bench, hand, name="franka_gripper"):
        from franka_msgs.action import Grasp, Homing, Move

        self.hand, self.server, self.received = hand, Server(hand), []
        arguments = {
            "move": lambda goal: (goal.width, goal.speed),
            "homing": lambda goal: (0.0, 0.2),
            "grasp": lambda goal: (goal.width, goal.speed, goal.epsilon.inner, goal.epsilon.outer),
        }
        group = ReentrantCallbackGroup()
        for kind, action in (("move", Move), ("grasp", Grasp), ("homing", Homing)):

            async def execute(handle, kind=kind, action=action):
                return await self._execute(handle, kind, action.Result, arguments[kind](handle.request))

            bench.servers.append(
                ActionServer(
                    bench.robot,
                    action,
                    f"{name}/{kind}",
                    execute,
                    callback_group=group,
                    cancel_callback=lambda handle: CancelResponse.ACCEPT,
                )
            )
        self._at = time.monotonic()

    def step(self):
        now = time.monotonic()
        self.server.step(now - self._at)
        self._at = now

    async def _execute(self, handle, kind, result, arguments):
        self.received.append((kind, *arguments))
        done = Future()
        self.server.start(lambda *end: done.set_result(end), lambda: handle.is_cancel_requested, kind, *arguments)
        cancelled, success, error = await done
        (handle.canceled if cancelled else handle.succeed if success else handle.abort)()
        return result(success=success, error=error)


def serve(bench, *nodes):
    """Let time pass for them whenever the bench spins."""

    def step():
        for node in nodes:
            node.step()

    bench.robot.create_timer(PERIOD, step)
