# SPDX-License-Identifier: Apache-2.0
"""Against a model of franka_gripper's server, over DDS: closed, then wanted open in the middle; objects; homing."""

import time

import pytest
from franka_gripper import FrankaGripperNode, serve
from franka_hand import Hand

from vla_sd_ros.arms import make_gripper
from vla_sd_ros.control.gripper import GripperGoals, State

pytestmark = pytest.mark.usefixtures("standins")

OPEN, CLOSE = 1.0, 0.0
WIDE = {"gripper.open_position": 0.08, "gripper.closed_position": 0.0, "gripper.effort": 30.0, "gripper.interface": "franka"}


def grippers(bench, *hands):
    """(gripper, driver) of each hand; polled as by arm_node."""
    pairs = []
    for number, hand in enumerate(hands):
        bench.node.values |= WIDE | {"gripper.action": f"hand{number}"}
        pairs.append((make_gripper(bench.node), FrankaGripperNode(bench, hand, f"hand{number}")))
    serve(bench, *(driver for _, driver in pairs))
    bench.node.create_timer(0.1, lambda: [gripper.poll(time.monotonic()) for gripper, _ in pairs])
    bench.until(lambda: all(not gripper.missing(act) for gripper, _ in pairs for act in gripper._clients), "the drivers")
    return pairs


def wait(bench, seconds):
    end = time.monotonic() + seconds
    bench.until(lambda: time.monotonic() > end, "time")


def send(gripper, opening):
    gripper.send(time.monotonic(), opening, b"goal")


def test_closed_and_wanted_open_in_the_middle_twenty_times_for_each_moment(bench):
    pairs = grippers(bench, *(Hand(object=0.04 if number % 2 else None) for number in range(20)))
    for after in (0.2, 0.4, 0.6):
        for gripper, _ in pairs:
            send(gripper, CLOSE)
        wait(bench, after)
        for gripper, _ in pairs:
            send(gripper, OPEN)
            wait(bench, 0.0017)  # spread over the server's 33 ms
        bench.until(lambda: all(gripper.state() == State.OPEN for gripper, _ in pairs), "open grippers", 5.0)
        hands = [(driver.hand.width, driver.hand.holding) for _, driver in pairs]
        assert hands == [(pytest.approx(0.079, abs=1e-5), False)] * len(pairs)
    assert all(driver.server.most == 1 for _, driver in pairs)
    assert not any(gripper.problem() for gripper, _ in pairs)


def test_an_object_of_40_mm_is_held_and_not_grasped_again_by_the_next_goal(bench):
    ((gripper, driver),) = grippers(bench, Hand(object=0.04))
    send(gripper, CLOSE)
    bench.until(lambda: gripper.state() == State.CLOSED, "a closed gripper", 5.0)
    assert driver.hand.holding and driver.hand.width == 0.04
    gripper.send(time.monotonic(), CLOSE, b"another goal")
    wait(bench, 0.5)
    assert len(driver.received) == 1 and driver.hand.holding and gripper.problem() == ""


def test_a_hand_whose_driver_was_started_anew_is_told_again(bench):
    ((gripper, old),) = grippers(bench, Hand(object=0.04))
    send(gripper, CLOSE)
    bench.until(lambda: gripper.state() == State.CLOSED, "a closed gripper", 5.0)
    servers, bench.servers = bench.servers, []
    new = FrankaGripperNode(bench, Hand(object=0.04), "hand0")  # and the old one is in the graph yet, as after it was killed
    for server in servers:
        server.destroy()
    serve(bench, new)
    wait(bench, 0.5)
    send(gripper, CLOSE)
    bench.until(lambda: new.hand.holding and gripper.state() == State.CLOSED, "a closed gripper", 5.0)
    assert len(old.received) == 1 and len(new.received) == 1 and gripper.problem() == ""


def test_a_width_that_the_hand_refuses_is_made_narrower_once(bench):
    ((gripper, driver),) = grippers(bench, Hand(width=0.0, max_width=0.0795))
    for opening, state in ((OPEN, State.OPEN), (CLOSE, State.CLOSED), (OPEN, State.OPEN)):
        send(gripper, opening)
        bench.until(lambda: gripper.state() == state, state.name, 5.0)
    assert [goal[:2] for goal in driver.received] == [("move", 0.08), ("move", 0.079), ("grasp", 0.0), ("move", 0.079)]
    assert gripper.problem() == ""


def test_a_hand_that_was_not_homed_says_so_and_opens_after_homing(bench):
    ((gripper, driver),) = grippers(bench, Hand(width=0.03, max_width=0.0))
    send(gripper, OPEN)
    bench.until(lambda: len(driver.received) == GripperGoals.ATTEMPTS and gripper.state() == State.UNKNOWN, "refusals", 10.0)
    assert "call ~/home_gripper" in gripper.problem()
    assert gripper.home(time.monotonic()) == ""
    bench.until(lambda: gripper.state() == State.OPEN, "an open gripper", 10.0)
    assert driver.hand.width == pytest.approx(0.079) and gripper.problem() == ""
    assert [goal[0] for goal in driver.received[GripperGoals.ATTEMPTS :]] == ["homing", "move", "move"]
