# SPDX-License-Identifier: Apache-2.0
"""Each gripper's driver gets the goals that it documents; one that is late, refuses or never answers blocks nothing."""

import pytest
from controllers import GripperServer
from processes import LATCHED
from std_msgs.msg import Float64

from vla_sd_ros.arms import make_gripper
from vla_sd_ros.control.gripper import Act, GripperGoals, State

pytestmark = pytest.mark.usefixtures("standins")


def gripper(bench, interface, **values):
    bench.node.values |= {"gripper.interface": interface} | {f"gripper.{name}": v for name, v in values.items()}
    return make_gripper(bench.node)


def franka_command(bench):
    return gripper(bench, "gripper_command", open_position=0.04, closed_position=0.0, effort=30.0)


def server(bench, **result):
    from control_msgs.action import GripperCommand

    fields = GripperCommand.Result(**result) if result else None
    return GripperServer(bench, GripperCommand, "franka_gripper/gripper_action", fields)


def test_gripper_command_takes_half_the_width_and_a_stalled_grasp_is_no_failure(bench):
    driver, closing = server(bench, stalled=True), franka_command(bench)
    bench.until(lambda: not closing.missing(Act.OPEN), "the driver")
    closing.send(bench.now, 0.0)
    bench.until(lambda: closing.state() == State.CLOSED, "a closed gripper")
    driver.result.stalled, driver.result.reached_goal = False, True
    closing.send(bench.now, 1.0)
    bench.until(lambda: closing.state() == State.OPEN, "an open gripper")
    assert [(g.command.position, g.command.max_effort) for g in driver.goals] == [(0.0, 30.0), (0.04, 30.0)]
    assert closing.problem() == ""


def test_an_opening_gripper_that_stalls_has_failed(bench):
    server(bench, stalled=True)
    opening = franka_command(bench)
    bench.until(lambda: not opening.missing(Act.OPEN), "the driver")
    opening.send(bench.now, 1.0)
    bench.until(opening.problem, "a problem")
    assert "stalled" in opening.problem() and opening.state() == State.UNKNOWN


def test_a_goal_that_never_returns_is_cancelled_for_the_next_and_given_up(bench):
    driver, closing = server(bench), franka_command(bench)
    bench.until(lambda: not closing.missing(Act.OPEN), "the driver")
    closing.send(bench.now, 0.0)
    bench.until(lambda: driver.goals and closing._handle, "the first goal")
    closing.send(bench.now, 1.0)
    bench.until(lambda: driver.cancelled == 1, "the cancel")
    bench.settle()
    assert len(driver.goals) == 1, "the second goal was sent before the first one had ended"
    bench.now += GripperGoals.ENDING + 0.1
    closing.poll(bench.now)
    bench.until(lambda: len(driver.goals) == 2 and closing._handle, "the second goal")
    closing.poll(bench.now + 9.9)
    assert closing.problem() == "" and closing.state() == State.MOVING
    closing.poll(bench.now + 10.1)
    assert "did not return" in closing.problem()
    bench.until(lambda: driver.cancelled == 2, "the second cancel")


def test_a_driver_that_comes_late_gets_the_newest_wish_only(bench):
    closing = franka_command(bench)
    closing.send(bench.now, 0.0)
    closing.send(bench.now, 1.0)
    assert "nobody offers the action /vla/franka_gripper/gripper_action" in closing.problem()
    driver = server(bench, reached_goal=True)
    bench.until(lambda: not closing.missing(Act.OPEN), "the driver")
    closing.poll(bench.now)
    bench.until(lambda: driver.goals, "a goal")
    bench.settle()
    assert [g.command.position for g in driver.goals] == [0.04]
    assert closing.problem() == ""


def test_a_refused_goal_and_a_failed_one_are_problems_until_one_succeeds(bench):
    driver, closing = server(bench, reached_goal=False), franka_command(bench)
    bench.until(lambda: not closing.missing(Act.OPEN), "the driver")
    driver.accepts = False
    closing.send(bench.now, 0.0)
    bench.until(closing.problem, "a problem")
    assert "refused" in closing.problem()
    driver.accepts, bench.now = True, bench.now + GripperGoals.RETRY
    closing.poll(bench.now)
    bench.until(lambda: "neither reached" in closing.problem(), "another problem")
    driver.result.reached_goal, bench.now = True, bench.now + GripperGoals.RETRY
    closing.poll(bench.now)
    bench.until(lambda: closing.state() == State.CLOSED, "a closed gripper")
    assert closing.problem() == "" and len(driver.goals) == 2


def test_a_parallel_gripper_is_told_the_joint(bench):
    from control_msgs.action import ParallelGripperCommand

    result = ParallelGripperCommand.Result(reached_goal=True)
    driver = GripperServer(bench, ParallelGripperCommand, "gripper_controller/gripper_cmd", result)
    closing = gripper(
        bench,
        "parallel_gripper_command",
        action="gripper_controller/gripper_cmd",
        joint="left",
        open_position=0.044,
        closed_position=0.0,
        effort=0.0,
    )
    bench.until(lambda: not closing.missing(Act.OPEN), "the driver")
    closing.send(bench.now, 1.0)
    bench.until(lambda: driver.goals, "a goal")
    command = driver.goals[0].command
    assert (list(command.name), list(command.position), list(command.effort)) == (["left"], [0.044], [])


def test_a_franka_grasps_with_a_wide_tolerance_and_says_what_failed(bench):
    from franka_msgs.action import Grasp

    grasp = GripperServer(bench, Grasp, "franka_gripper/grasp", Grasp.Result(success=False, error="no object"))
    closing = gripper(bench, "franka", action="franka_gripper", open_position=0.08, closed_position=0.0, effort=30.0)
    bench.until(lambda: not closing.missing(Act.CLOSE), "the driver")
    closing.send(bench.now, 0.0)
    bench.until(closing.problem, "what the driver says")
    goal = grasp.goals[0]
    assert (goal.width, goal.speed, goal.force, goal.epsilon.inner, goal.epsilon.outer) == (0.0, 0.1, 30.0, 0.08, 0.08)
    assert "/vla/franka_gripper/grasp says: no object" in closing.problem()


def test_only_a_franka_can_be_homed(bench):
    assert "gripper_command has no homing" in franka_command(bench).home(bench.now)
    assert "topic has no homing" in gripper(bench, "topic").home(bench.now)


def test_a_topic_gets_the_positions_of_the_driver(bench):
    seen = []
    closing = gripper(bench, "topic", open_position=0.8, closed_position=0.1)
    closing.send(bench.now, 0.0, b"one goal")
    bench.robot.create_subscription(Float64, "gripper_command", lambda m: seen.append(m.data), LATCHED)
    bench.until(lambda: seen, "the latched value")
    closing.send(bench.now, 1.0, b"one goal")
    closing.send(bench.now, 1.0, b"one goal")
    bench.until(lambda: len(seen) == 2, "the second value")
    closing.send(bench.now, 1.0, b"another goal")  # a simulator may have been reset meanwhile
    bench.until(lambda: len(seen) == 3, "the third value")
    assert seen == [0.1, 0.8, 0.8] and closing.state() == State.OPEN
