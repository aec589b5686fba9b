# SPDX-License-Identifier: Apache-2.0
"""A service that answers later does so in each of rclpy's executors, and its node goes on meanwhile, in the same group."""

import threading

import pytest
import rclpy
from processes import Domain, Ros
from rclpy.context import Context
from rclpy.executors import MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future
from std_srvs.srv import Trigger

from vla_sd_ros.nodes.answers import answering_later


def events(context):
    experimental = pytest.importorskip("rclpy.experimental", reason="this rclpy has no EventsExecutor")
    return experimental.EventsExecutor(context=context)


def single(context):
    return SingleThreadedExecutor(context=context)


def several(context):
    return MultiThreadedExecutor(2, context=context)


@pytest.mark.parametrize("make_executor", [events, single, several])
def test_in_each_executor(make_executor):
    domain, context, asked = Domain(), Context(), []
    rclpy.init(context=context, domain_id=domain.id, signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("late", context=context, namespace="/vla")

    def ask(request, response):
        asked.append((response, Future()))
        return asked[-1][1]

    def answer():
        if asked:
            response, future = asked.pop()
            response.message = "late"
            future.set_result(response)

    answering_later(node.create_service(Trigger, "ask", ask))
    node.create_timer(0.2, answer)
    executor, over = make_executor(context), threading.Event()
    executor.add_node(node)
    ros = Ros(domain)

    def spin():
        while not over.is_set():
            executor.spin_once(timeout_sec=0.1)

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        assert [ros.call(Trigger, "ask", Trigger.Request()).message for _ in range(2)] == ["late", "late"]
    finally:
        over.set()
        thread.join()
        ros.close()
        executor.shutdown()
        node.destroy_node()
        context.try_shutdown()
        domain.release()
