# SPDX-License-Identifier: Apache-2.0
"""A goal that cannot be executed is refused, and its result says why in one sentence; unknown words are no reason."""

import time

import pytest
from action_msgs.msg import GoalStatus
from processes import LATCHED
from rclpy.action import ActionClient
from vla import NODE
from vla_sd_msgs.action import ExecuteInstruction
from vla_sd_msgs.msg import ArmStatus

from vla_sd_ros.client import GoalRejected


def answered(vla, **goal):
    """The answer to a goal that another client than ours sends, which looks at nothing before."""
    client = ActionClient(vla.ros.node, ExecuteInstruction, "execute_instruction")
    assert client.wait_for_server(10.0)
    sent = client.send_goal_async(ExecuteInstruction.Goal(**goal))
    vla.ros.wait_until(sent.done, "an answer")
    assert sent.result().accepted
    answer = sent.result().get_result_async()
    vla.ros.wait_until(answer.done, "the result")
    client.destroy()
    return answer.result()


@pytest.mark.parametrize(
    "goal, sentence",
    [
        (dict(instruction=""), "the instruction is empty; say in words what the arm shall do."),
        (dict(instruction="pick " * 200), "the instruction makes a prompt of 203 tokens, but at most 128 are read; shorten it."),
        (dict(instruction="  \n"), "the instruction is empty; say in words what the arm shall do."),
        (dict(instruction="pick up \x07the milk"), "the instruction contains the unprintable character U+0007; say in words what"),
        (dict(instruction="\x1b[31mgo"), "the instruction contains the unprintable character U+001B; say in words what"),
        (dict(instruction="go", time_limit=1e6), "time_limit is 1e+06 s; it must lie in 0 .. 3600 s"),
        (dict(instruction="go", step_limit=200_000), "step_limit is 200000; it must lie in 0 .. 100000"),
    ],
)
def test_a_wrong_goal_is_refused(vla, goal, sentence):
    message = answered(vla, **goal).result.error_msg
    assert sentence in message and "\n" not in message
    assert not vla.commands


@pytest.mark.parametrize("limit, words", [(-1.0, "-1"), (float("nan"), "nan")])
def test_any_client_of_the_action_finds_the_reason_in_the_result(vla, limit, words):
    answer = answered(vla, instruction="go", time_limit=limit)
    assert answer.status == GoalStatus.STATUS_ABORTED
    result = answer.result
    assert result.error_code == result.GOAL_REFUSED == 1015
    assert f"time_limit is {words} s; it must lie in 0 .. 3600 s" in result.error_msg


def test_a_node_that_is_not_active_refuses_and_says_its_state(vla):
    vla.ros.change_state(NODE, "deactivate")
    try:
        with pytest.raises(GoalRejected, match="vla_node is inactive, not active; configure and activate it first"):
            vla.client.start("pick up the milk")
            vla.client.result(5.0)
    finally:
        assert vla.ros.change_state(NODE, "activate")


def test_while_the_arm_is_held_goals_are_refused_with_its_reason(vla):
    def report(code, message):
        vla.ros.publish(ArmStatus, "arm_node/status", ArmStatus(code=code, message=message), LATCHED)
        time.sleep(0.1)

    vla.world.arm = False  # it speaks here
    try:
        report(ArmStatus.HELD, "the service ~/hold was called, so the arm holds")
        with pytest.raises(
            GoalRejected,
            match="the arm is held: the service ~/hold was called, so the arm holds; call ~/hold of "
            "arm_node with data: false first",
        ):
            vla.client.start("pick up the milk")
            vla.client.result(5.0)
        vla.world.arm = True
        time.sleep(0.3)
        vla.start_moving()
    finally:
        assert vla.ros.change_state(NODE, "deactivate") and vla.ros.change_state(NODE, "activate")


def test_unknown_words_are_accepted(vla):
    vla.start_moving("defenestrate the flibbertigibbet, s'il te plaît 🙂")
