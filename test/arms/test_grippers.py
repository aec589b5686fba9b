# SPDX-License-Identifier: Apache-2.0
"""Each gripper's driver gets the goals that it documents; one that is late, refuses or never answers blocks nothing."""

import pytest
from controllers import GripperServer
from processes import LATCHED
from std_msgs.msg import Float64

from vla_sd_ros.arms import make_gripper

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
    bench.until(closing._goals._client.server_is_ready, "the driver")
    closing.send(bench.now, 1.0)
    bench.until(lambda: len(driver.goals) == 1, "the first goal")
    closing.send(bench.now, 0.0)
    bench.until(lambda: len(driver.goals) == 2, "the second goal")
    assert [(g.command.position, g.command.max_effort) for g in driver.goals] == [(0.04, 30.0), (0.0, 30.0)]
    bench.until(lambda: closing._goals._goal is None, "the result")
    assert closing.problem() == ""


def test_a_goal_that_never_returns_is_cancelled_for_the_next_and_given_up_after_its_time(bench):
    driver, closing = server(bench), franka_command(bench)
    bench.until(closing._goals._client.server_is_ready, "the driver")
    closing.send(bench.now, 0.0)
    bench.until(lambda: driver.goals and closing._goals._handle, "the first goal")
    closing.send(bench.now, 1.0)
    bench.until(lambda: len(driver.goals) == 2 and driver.cancelled == 1 and closing._goals._handle, "the second goal")
    closing.poll(bench.now + 9.9)
    assert closing.problem() == ""
    closing.poll(bench.now + 10.1)
    assert "did not return" in closing.problem()
    bench.until(lambda: driver.cancelled == 2, "the second cancel")


def test_a_driver_that_comes_late_gets_the_newest_wish_only(bench):
    closing = franka_command(bench)
    closing.send(bench.now, 0.0)
    closing.send(bench.now, 1.0)
    assert "nobody offers the action /vla/franka_gripper/gripper_action" in closing.problem()
    driver = server(bench, reached_goal=True)
    bench.until(closing._goals._client.server_is_ready, "the driver")
    closing.poll(bench.now)
    bench.until(lambda: driver.goals, "a goal")
    bench.settle()
    assert [g.command.position for g in driver.goals] == [0.04]
    assert closing.problem() == ""


def test_a_refused_goal_and_a_failed_one_are_problems_until_the_next(bench):
    driver, closing = server(bench, reached_goal=False), franka_command(bench)
    bench.until(closing._goals._client.server_is_ready, "the driver")
    driver.accepts = False
    closing.send(bench.now, 0.0)
    bench.until(closing.problem, "a problem")
    assert "refused" in closing.problem()
    driver.accepts = True
    closing.send(bench.now, 0.0)
    assert closing.problem() == ""
    bench.until(closing.problem, "a problem")
    assert "neither reached" in closing.problem()


def test_a_parallel_gripper_is_told_the_joint(bench):
    from control_msgs.action import ParallelGripperCommand

    result = ParallelGripperCommand.Result(reached_goal=True)
    driver = GripperServer(bench, ParallelGripperCommand, "gripper_controller/gripper_cmd", result)
    closing = gripper(bench, "parallel_gripper_command", action="gripper_controller/gripper_cmd", joint="left",
                      open_position=0.044, closed_position=0.0, effort=0.0)
    bench.until(closing._goals._client.server_is_ready, "the driver")
    closing.send(bench.now, 1.0)
    bench.until(lambda: driver.goals, "a goal")
    command = driver.goals[0].command
    assert (list(command.name), list(command.position), list(command.effort)) == (["left"], [0.044], [])


def test_franka_moves_to_open_and_grasps_to_close(bench):
    from franka_msgs.action import Grasp, Move

    move = GripperServer(bench, Move, "franka_gripper/move", Move.Result(success=True))
    grasp = GripperServer(bench, Grasp, "franka_gripper/grasp", Grasp.Result(success=False, error="no object"))
    closing = gripper(bench, "franka", action="franka_gripper", open_position=0.08, closed_position=0.0, effort=30.0)
    for goals in (closing._move, closing._grasp):
        bench.until(goals._client.server_is_ready, "the driver")
    closing.send(bench.now, 1.0)
    bench.until(lambda: move.goals, "a move")
    closing.send(bench.now, 0.0)
    bench.until(lambda: grasp.goals, "a grasp")
    assert (move.goals[0].width, move.goals[0].speed) == (0.08, 0.1)
    goal = grasp.goals[0]
    assert (goal.width, goal.force, goal.epsilon.outer) == (0.0, 30.0, 0.08)
    bench.until(closing.problem, "what the driver says")
    assert "no object" in closing.problem()


def test_a_topic_gets_the_positions_of_the_driver(bench):
    seen = []
    closing = gripper(bench, "topic", open_position=0.8, closed_position=0.1)
    closing.send(bench.now, 0.0)
    bench.robot.create_subscription(Float64, "gripper_command", lambda m: seen.append(m.data), LATCHED)
    bench.until(lambda: seen, "the latched value")
    closing.send(bench.now, 1.0)
    bench.until(lambda: len(seen) == 2, "the second value")
    assert seen == [0.1, 0.8]
