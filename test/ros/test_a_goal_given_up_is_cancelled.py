# SPDX-License-Identifier: Apache-2.0
"""A goal that vla_node did not answer in time moves no arm later: it is cancelled as soon as vla_node goes on."""

import os
import signal
import threading
import time

import pytest
from action_msgs.msg import GoalStatus
from rclpy.action import ActionServer, CancelResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from vla_sd_msgs.action import ExecuteInstruction

from vla_sd_ros.client import InstructionClient


class Server:
    """Takes goals only while it is spun; the first `lost` cancel requests are for nothing, as where they came before the goal."""

    def __init__(self, ros):
        self.node = Node("vla_node", namespace="/vla", context=ros.context)
        self.executor = MultiThreadedExecutor(3, context=ros.context)
        self.executor.add_node(self.node)
        self.lost, self.canceled, self.taken, self.over = 0, [], [], False
        self.server = ActionServer(
            self.node,
            ExecuteInstruction,
            "execute_instruction",
            self._execute,
            callback_group=ReentrantCallbackGroup(),
            cancel_callback=self._cancel,
        )

    def _cancel(self, handle):
        self.lost -= 1
        return CancelResponse.REJECT if self.lost >= 0 else CancelResponse.ACCEPT

    def _execute(self, handle):
        self.taken.append(handle)
        while not (handle.is_cancel_requested or self.over):
            time.sleep(0.01)
        if handle.is_cancel_requested:
            self.canceled.append(handle)
            handle.canceled()
        return ExecuteInstruction.Result()

    def spin(self, condition, timeout=5.0):
        end = time.monotonic() + timeout
        while not condition() and time.monotonic() < end:
            self.executor.spin_once(0.05)
        return condition()


@pytest.fixture
def server(ros):
    made = Server(ros)
    yield made
    made.over = True
    made.executor.shutdown(1.0)
    made.server.destroy()
    made.node.destroy_node()


@pytest.fixture
def given_up(ros, server):
    """A client whose goal was given up; the server has not been spun since."""
    client = InstructionClient("vla", context=ros.context)
    client.wait_for_node()
    with pytest.raises(TimeoutError, match="did not answer the goal within 0.3 s, so it is given up, and cancelled should"):
        client.start("pick up the milk", timeout=0.3)
    with pytest.raises(RuntimeError, match="the goal was given up, because vla_node did not answer it"):
        client.cancel()
    yield client
    client.close()


def test_where_nobody_spins_the_client(server, given_up):
    assert server.spin(lambda: server.taken) and server.spin(lambda: server.canceled)


def test_the_answer_to_the_goal_cancels_it_too(server, given_up):
    server.lost = 1
    assert given_up.unanswered and not given_up.running
    server.spin(lambda: server.taken)
    assert not server.spin(lambda: server.canceled, 0.5)
    given_up.spin_until(lambda: given_up.running, 2.0)
    assert given_up.running  # and so it can be cancelled by hand
    given_up.spin_until(lambda: False, 0.2)
    assert server.spin(lambda: server.canceled)
    end = time.monotonic() + 5.0
    while (given_up.running or given_up.unanswered) and time.monotonic() < end:
        server.executor.spin_once(0.05)
        given_up.spin_until(lambda: False, 0.05)
    assert not given_up.unanswered and given_up.status == GoalStatus.STATUS_CANCELED


def test_a_newer_goal_is_left_alone(server, given_up):
    thread = threading.Thread(target=server.spin, args=(lambda: server.over, 20.0))
    thread.start()
    given_up.start("pick up the soup")
    given_up.spin_until(lambda: server.canceled, 5.0)
    given_up.spin_until(lambda: False, 0.3)
    assert [handle.request.instruction for handle in server.canceled] == ["pick up the milk"] and given_up.running
    given_up.cancel()
    server.over = True
    thread.join()


def test_of_a_vla_node_that_is_stopped_for_a_while(vla):
    before = len(vla.process.log)
    os.kill(vla.process.process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(TimeoutError, match="did not answer"):
            vla.client.start("pick up the milk", timeout=1.0)
    finally:
        os.kill(vla.process.process.pid, signal.SIGCONT)
    told = lambda: vla.process.log[before:]  # noqa: E731
    vla.ros.wait_until(lambda: "New goal: 'pick up the milk'" in told(), "the goal")
    vla.ros.wait_until(lambda: "Goal ended" in told(), "its end", 3.0)
    assert "cancelled" in told()
    vla.clear_records()
    time.sleep(0.5)
    assert not vla.motions()
