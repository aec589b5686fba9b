# SPDX-License-Identifier: Apache-2.0
"""`vla-sd robot` knows by their lifecycle states which of its nodes have started and which could not, whatever their logs say."""

import time

import pytest


@pytest.mark.parametrize("failing", [None, "configure", "activate"])
def test_a_node_that_starts_itself(failing, domain, monkeypatch):
    import rclpy
    from rclpy.context import Context
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.parameter import Parameter
    from rclpy.signals import SignalHandlerOptions

    from vla_sd_ros import robot
    from vla_sd_ros.nodes.lifecycle import ManagedNode

    class Node(ManagedNode):
        TABLE = ()

        def configure(self):
            self.get_logger().error("could not configure, says a line that decides nothing")
            self._fail("configure")

        def activate(self):
            self._fail("activate")

        def _fail(self, step):
            if step == failing:
                raise ValueError("no")

    monkeypatch.setattr(robot, "STUCK", 0.3)
    context = Context()
    rclpy.init(context=context, domain_id=domain.id, signal_handler_options=SignalHandlerOptions.NO)
    asking, executor = rclpy.create_node("asking", context=context, namespace="/vla"), SingleThreadedExecutor(context=context)
    executor.add_node(asking)
    watched = robot.Starting(asking, "arm_node")
    parameters = [Parameter("autostart", value=True)]
    node = Node("arm_node", context=context, namespace="/vla", parameter_overrides=parameters)
    executor.add_node(node)
    deadline = time.monotonic() + 10.0
    while not (watched.active or watched.stuck) and time.monotonic() < deadline:
        watched.look()
        executor.spin_once(timeout_sec=0.05)
    assert (watched.active, watched.stuck) == (failing is None, failing is not None)
    executor.shutdown()
    for made in (asking, node):
        made.destroy_node()
    context.try_shutdown()
