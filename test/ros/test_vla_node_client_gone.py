# SPDX-License-Identifier: Apache-2.0
"""With goal.client_timeout a goal ends when its client has left, whoever else is there; without it, it goes on."""

import time

import pytest
from vla import NODE

from vla_sd_ros.client import InstructionClient

FEEDBACK = "execute_instruction/_action/feedback"


class Departing(InstructionClient):
    """A client that the fixture need not know whether it has left."""

    there = True

    def close(self) -> None:
        if self.there:
            super().close()
        self.there = False


@pytest.fixture
def departing(vla):
    """The only client, so that it can leave."""
    vla.client.close()
    vla.ros.wait_until(lambda: not vla.ros.node.count_subscribers(FEEDBACK), "the end of the other client")
    with Departing("vla", "departing", context=vla.ros.context) as client:
        yield client
    assert vla.ros.set_parameter(NODE, "goal.client_timeout", 0.0).successful
    vla.client = InstructionClient("vla", context=vla.ros.context)
    vla.client.wait_for_node()


def test_it_ends_the_goal_when_its_client_has_left(vla, departing):
    assert vla.ros.set_parameter(NODE, "goal.client_timeout", 0.5).successful
    departing.start("pick up the milk")
    assert not departing.is_complete(2.0), "its client is there"
    with InstructionClient("vla", "another", context=vla.ros.context) as another:
        another.wait_for_node()
        before = len(vla.process.log)
        departing.close()
        left = time.monotonic()
        vla.ros.wait_until(lambda: "The client has been gone for" in vla.process.log[before:], "the end of the goal", 5.0)
        assert 0.4 < time.monotonic() - left < 3.0
        vla.ros.wait_until(vla.holds, "the hold")
        moved = len(vla.motions())
        time.sleep(0.3)
        assert len(vla.motions()) == moved


def test_without_it_the_goal_goes_on(vla, departing):
    departing.start("pick up the milk", time_limit=3.0)
    departing.close()
    time.sleep(1.0)
    moved = len(vla.motions())
    vla.ros.wait_until(lambda: len(vla.motions()) > moved + 2, "more motion", 1.5)
    vla.ros.wait_until(vla.holds, "the end by its limit", 5.0)
