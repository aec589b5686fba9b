# SPDX-License-Identifier: Apache-2.0
"""The ROS side of the console before nodes that can be made to fail: remapped ones are found, refusals and lost goals are told,
a hold that nobody answers stops the goal.

The nodes are stand-ins in this process, because real ones answer; test/ros/test_an_operator_drives_the_arm_from_the_page.py has
those.
"""

import asyncio
import threading
import time

import pytest
import rclpy
from action_msgs.msg import GoalStatus
from lifecycle_msgs.srv import GetState
from processes import LATCHED, Domain
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.context import Context
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from vla_sd_msgs.action import ExecuteInstruction
from vla_sd_msgs.msg import ArmStatus, DecodeStep, RunningGoal, TaskSuccess

from vla_sd_ros.console import Refused
from vla_sd_ros.console import robot as module
from vla_sd_ros.console.robot import Robot

CAMERA, ARM = "/camera/image_raw", "/robot/arm_node"  # elsewhere than in the namespace of vla_node


class Nodes:
    """A vla_node that hears a camera and an arm_node elsewhere, and that arm_node."""

    def __init__(self):
        self.domain, self.context = Domain(), Context()
        rclpy.init(context=self.context, domain_id=self.domain.id, signal_handler_options=SignalHandlerOptions.NO)
        self.executor = MultiThreadedExecutor(4, context=self.context)
        self.held, self.refusal, self.over, self.answering = None, "", threading.Event(), threading.Event()
        self.answering.set()
        self.others = self._node("others", "/")
        self.camera = self.others.create_publisher(Image, CAMERA, 1)
        self.status = self.others.create_publisher(ArmStatus, f"{ARM}/status", LATCHED)
        self.marks = []
        self.others.create_subscription(TaskSuccess, "/vla/task_success", self.marks.append, LATCHED)
        self.hold = self.others.create_service(SetBool, f"{ARM}/hold", self._on_hold)
        self.vla = self._vla()
        self.robot = Robot("vla", self.context)
        self.robot.viewers = 1
        self._thread = threading.Thread(target=self.executor.spin, daemon=True)
        self._thread.start()

    def _node(self, name: str, namespace: str) -> Node:
        node = Node(name, namespace=namespace, context=self.context)
        self.executor.add_node(node)
        return node

    def _vla(self) -> Node:
        node = self._node("vla_node", "/vla")
        node.create_subscription(Image, CAMERA, lambda message: None, 1)
        node.create_subscription(ArmStatus, f"{ARM}/status", lambda message: None, LATCHED)
        node.create_service(GetState, "vla_node/get_state", self._on_state)
        self.goals = node.create_publisher(RunningGoal, "goal", LATCHED)
        self.steps = node.create_publisher(DecodeStep, "decode", 10)
        self.server = ActionServer(
            node,
            ExecuteInstruction,
            "execute_instruction",
            self._execute,
            callback_group=ReentrantCallbackGroup(),
            cancel_callback=self._on_cancel,
            goal_callback=self._on_request,
        )
        return node

    def restart_vla(self) -> None:
        """Another vla_node in the place of this one, which knows nothing of its goals."""
        before, server = self.vla, self.server
        self.executor.remove_node(before)
        server.destroy()
        before.destroy_node()
        self.over.set()
        self.vla = self._vla()

    @staticmethod
    def _on_state(request, response):
        response.current_state.label = "active"
        return response

    def _on_hold(self, request, response):
        self.held = request.data
        response.message = "the arm holds" if request.data else ""
        return response

    def _on_request(self, goal):
        self.answering.wait(10.0)
        self.over.clear()
        return GoalResponse.ACCEPT

    def _on_cancel(self, handle):
        self.over.set()
        return CancelResponse.ACCEPT

    def _execute(self, handle):
        if self.refusal:
            handle.abort()
            return ExecuteInstruction.Result(error_code=ExecuteInstruction.Result.GOAL_REFUSED, error_msg=self.refusal)
        self.goals.publish(RunningGoal(goal_id=handle.goal_id, instruction=handle.request.instruction))
        step = 0
        while not self.over.wait(0.05):
            self.steps.publish(DecodeStep(step=step, path="draft", accepted_length=5, total_ms=10.0, threshold=float("nan")))
            handle.publish_feedback(ExecuteInstruction.Feedback(step=step, elapsed_time=0.05 * step))
            step += 1
        self.goals.publish(RunningGoal())
        if handle.status == GoalStatus.STATUS_CANCELING:
            handle.canceled()
        else:
            handle.abort()
        return ExecuteInstruction.Result(termination_reason="cancelled", steps=step)

    def until(self, condition, what: str, timeout: float = 15.0):
        deadline = time.monotonic() + timeout
        while not (value := condition(self.robot.state())):
            assert time.monotonic() < deadline, f"waited in vain for {what}: {self.robot.state()}"
            time.sleep(0.02)
        return value

    def say(self, **status) -> None:
        self.status.publish(ArmStatus(**status))

    def close(self) -> None:
        self.over.set()
        self.robot.close()
        self.executor.shutdown(0.5)
        self.context.try_shutdown()
        self.domain.release()


@pytest.fixture(scope="module")
def shared():
    nodes = Nodes()
    nodes.until(lambda state: state["vla"]["state"] == "active", "vla_node")
    yield nodes
    nodes.close()


@pytest.fixture
def nodes(shared):
    shared.refusal, shared.held = "", None
    yield shared
    shared.over.set()
    shared.until(lambda state: not state["goal"], "the end of the goal")


def asked(what):
    """What the robot tells; Refused where it does not do it."""
    return asyncio.run(what)


def test_the_camera_and_the_arm_that_vla_node_hears_are_found(nodes):
    nodes.until(lambda state: state["camera"]["topic"] == CAMERA, "the camera")
    nodes.say(code=1113, message="a reflex: joint 3 met something")
    arm = nodes.until(lambda state: state["arm"]["there"] and state["arm"], "the arm")
    assert arm["fault"] and arm["name"] == "ROBOT_FAULT" and arm["message"] == "a reflex: joint 3 met something"
    deadline = time.monotonic() + 10.0
    while not nodes.robot.picture()[0]:
        assert time.monotonic() < deadline, "no picture came"
        nodes.camera.publish(Image(height=48, width=64, encoding="rgb8", step=192, data=bytes(range(256)) * 36))
        time.sleep(0.1)
    assert nodes.robot.picture()[1].startswith(b"\xff\xd8\xff")
    nodes.camera.publish(Image(height=48, width=64, encoding="bayer_rggb8", step=64, data=bytes(64 * 48)))
    assert "debayer" in nodes.until(lambda state: state["camera"]["problem"], "the camera's problem")
    assert asked(nodes.robot.hold(True)) == "the arm holds" and nodes.held is True
    asked(nodes.robot.hold(False))
    assert nodes.held is False


def test_an_arm_that_is_silent_is_lost(nodes):
    nodes.say(code=1)
    nodes.until(lambda state: state["arm"]["there"], "the arm")
    arm = nodes.until(lambda state: not state["arm"]["there"] and state["arm"], "its loss", 5.0)
    assert arm["problem"].startswith("arm_node has been silent for") and not arm["fault"] and not arm["held"]


def test_a_goal_that_cannot_begin_is_refused_with_the_nodes_sentence(nodes):
    nodes.refusal = "the arm is held: call ~/hold with data: false first."
    with pytest.raises(Refused, match="call ~/hold with data: false first"):
        asked(nodes.robot.start("pick up the milk"))
    with pytest.raises(Refused, match="the instruction is empty; say in words what the arm shall do"):
        asked(nodes.robot.start("  "))
    assert nodes.robot.state()["starting"] is False


def test_one_goal_runs_at_a_time_and_is_stopped_and_told(nodes):
    before = max((step["number"] for step in nodes.robot.steps(0)), default=0)
    assert asked(nodes.robot.start("pick up the milk", 30.0)) == "started: pick up the milk"
    nodes.until(lambda state: (state["goal"] or {"step": 0})["step"] > 3, "steps")
    with pytest.raises(Refused, match="a goal runs already"):
        asked(nodes.robot.start("put it back"))
    newest = nodes.robot.steps(before)[-1]
    assert (newest["path"], newest["accepted"], newest["total"], newest["threshold"]) == ("draft", 5, 10.0, None)
    assert asked(nodes.robot.mark(True)) == "marked as success"
    deadline = time.monotonic() + 5.0
    while not nodes.marks and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (nodes.marks[-1].state, nodes.marks[-1].instruction) == (TaskSuccess.SUCCESS, "pick up the milk")
    assert asked(nodes.robot.stop()) == "the goal is being stopped"
    last = nodes.until(lambda state: not state["goal"] and state["last"], "the result")
    assert last["reason"] == "cancelled" and last["instruction"] == "pick up the milk" and last["steps"] > 3
    assert asked(nodes.robot.stop()) == "no goal was running"
    with pytest.raises(Refused, match="no goal is running"):
        asked(nodes.robot.mark(True))
    assert "pick up the milk" in nodes.robot.state()["sentences"]


def test_a_goal_that_was_not_answered_is_cancelled_when_it_is_taken(nodes, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.5)
    nodes.answering.clear()
    try:
        with pytest.raises(Refused, match="did not answer the goal within 0.5 s, so it is given up, and cancelled"):
            asked(nodes.robot.start("close the drawer", 30.0))
        time.sleep(0.3)  # the first cancel request finds no such goal yet
    finally:
        nodes.answering.set()
    last = nodes.until(
        lambda state: not state["goal"] and (state["last"] or {}).get("instruction") == "close the drawer" and state["last"],
        "its end",
        5.0,
    )
    assert last["reason"] == "cancelled"


def test_a_hold_that_nobody_answers_is_told_and_stops_the_goal(nodes):
    asked(nodes.robot.start("pick up the milk"))
    nodes.until(lambda state: state["goal"], "the goal")
    nodes.others.destroy_service(nodes.hold)
    try:
        with pytest.raises(Refused, match="the arm was NOT told to hold; use the emergency stop"):
            asked(nodes.robot.hold(True))
        assert nodes.until(lambda state: not state["goal"] and state["last"], "the end of the goal")["reason"] == "cancelled"
    finally:
        nodes.hold = nodes.others.create_service(SetBool, f"{ARM}/hold", nodes._on_hold)


def test_recover_asks_whoever_tells_the_fault(nodes):
    asked_of = []

    def service(name):
        def answer(request, response):
            asked_of.append(name)
            response.success, response.message = name != "arm_node", "the switch is open" if name == "arm_node" else ""
            return response

        return nodes.others.create_service(Trigger, f"/robot/{name}/recover", answer)

    services = [service("arm_node"), service("franka_driver")]
    fault = nodes.others.create_publisher(String, "/robot/robot_fault", LATCHED)

    def say(text, code):
        fault.publish(String(data=text))
        nodes.say(code=code)

    def shown(expected):
        nodes.until(lambda state: (nodes.say(code=code), state["arm"]["recover"] == expected)[1], f"recover is {expected}")

    try:
        code = ArmStatus.NO_COMMAND
        shown(False)
        say("a reflex; call ~/recover of franka_driver", code)  # which the status may not say any more, after the goal
        shown(True)
        nodes.until(
            lambda state: all(nodes.robot._arm._recovers[name].service_is_ready() for name in ("arm_node", "franka_driver")), "both"
        )
        assert asked(nodes.robot.recover()) == "franka_driver has recovered: the next goal may begin"
        say("", code)
        shown(False)
        code = ArmStatus.ROBOT_FAULT
        shown(True)
        with pytest.raises(Refused, match="arm_node did not recover: the switch is open"):
            asked(nodes.robot.recover())
        assert asked_of == ["franka_driver", "arm_node"]
    finally:
        nodes.say(code=ArmStatus.NO_COMMAND)
        for made in services:
            nodes.others.destroy_service(made)
        nodes.others.destroy_publisher(fault)


def test_a_goal_whose_vla_node_was_started_anew_is_lost(nodes):
    asked(nodes.robot.start("pick up the milk"))
    nodes.until(lambda state: state["goal"], "the goal")
    nodes.restart_vla()
    last = nodes.until(lambda state: (state["last"] or {}).get("reason") == "lost" and state["last"], "the loss")
    assert "knows nothing of this goal" in last["message"]


def test_what_is_no_parameter_is_refused(nodes):
    for node, name in (("vla", "no.such"), ("arm", "dry_run"), ("elsewhere", "decoder.name")):
        with pytest.raises(Refused, match="there is no live parameter"):
            asked(nodes.robot.set_parameter(node, name, 1))


def test_a_vla_node_in_another_namespace_is_named(nodes):
    robot = Robot("lab", nodes.context)
    try:
        deadline = time.monotonic() + 10.0
        while "--namespace vla" not in (problem := robot.state()["vla"]["problem"]):
            assert time.monotonic() < deadline, problem
            time.sleep(0.05)
        assert problem == "vla_node of /lab has not been heard yet; there is one in /vla: --namespace vla"
    finally:
        robot.close()
