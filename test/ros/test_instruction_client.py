# SPDX-License-Identifier: Apache-2.0
"""The Python client says in one sentence what is wrong, and follows a goal from start to result."""

import pytest

from vla_sd_ros.client import GoalRejected, InstructionClient


def test_without_vla_node_the_client_names_the_action_it_looked_for(ros):
    client = InstructionClient("elsewhere", context=ros.context)
    try:
        with pytest.raises(TimeoutError, match="no vla_node offers the action /elsewhere/execute_instruction"):
            client.start("pick up the milk", timeout=0.5)
        with pytest.raises(RuntimeError, match="no goal was started"):
            client.result()
    finally:
        client.close()


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        ({"step_limit": -1}, "step_limit is -1, but must be a whole number from 0"),
        ({"step_limit": 2**32 + 1}, "step_limit is"),
        ({"time_limit": float("nan")}, "time_limit is nan"),
        ({"time_limit": -1.0}, "time_limit is -1.0"),
    ],
)
def test_a_limit_that_is_none_is_refused_before_anything_is_sent(ros, limits, sentence):
    with InstructionClient("elsewhere", context=ros.context) as client:
        with pytest.raises(ValueError, match=sentence):
            client.start("pick up the milk", timeout=0.5, **limits)


@pytest.mark.parametrize(
    ("instruction", "sentence"),
    [
        ("", "the instruction is empty; say in words"),
        ("a\0b", "the instruction contains the unprintable character U\\+0000; say"),
        ("\ud800", "the unprintable character U\\+D800"),
    ],
)
def test_an_instruction_that_is_none_is_refused_before_anything_is_sent(ros, instruction, sentence):
    with InstructionClient("elsewhere", context=ros.context) as client:
        with pytest.raises(GoalRejected, match=sentence):
            client.start(instruction, timeout=0.5)


def test_the_client_follows_a_goal(vla):
    client = vla.client
    client.start("pick up the milk", step_limit=5)
    told = []
    while not client.is_complete():
        if client.feedback and client.feedback.step not in told:
            told.append(client.feedback.step)
    assert told == sorted(told) and told[-1] >= 4
    assert not client.running
    assert client.result().steps == 5
    with pytest.raises(TimeoutError, match="did not end within 0.3 s"):
        client.start("pick up the milk")
        client.result(0.3)


def test_the_client_waits_until_the_node_is_active(vla):
    vla.client.wait_until_active(10.0)
    with InstructionClient("elsewhere", context=vla.ros.context) as client:
        with pytest.raises(TimeoutError, match="vla_node of /elsewhere is not there after 0.5 s, not active"):
            client.wait_until_active(0.5)
