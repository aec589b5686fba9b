# SPDX-License-Identifier: Apache-2.0
"""Whatever the interface: another publisher of what the robot takes is a fault for as long as it is there."""

import itertools

import pytest
from rclpy.action import ActionClient, ActionServer
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.task import Future

from vla_sd_ros.arms import make_arm
from vla_sd_ros.arms.wiring import Rivals


@pytest.mark.parametrize("interface", ["pose_target", "joint_trajectory"])
def test_a_second_publisher_is_a_fault_for_as_long_as_it_is_there(bench, interface):
    bench.node.values["arm.interface"] = interface
    before = set(bench.node.publishers)
    make_arm(bench.node)
    (publisher,) = (publisher for publisher in bench.node.publishers if publisher not in before)
    rivals = Rivals(bench.node, [publisher])
    assert rivals.fault(100.0) == ""
    other = bench.robot.create_publisher(publisher.msg_type, publisher.topic_name, 1)
    bench.until(lambda: bench.node.count_publishers(publisher.topic_name) == 2, "the other publisher")
    assert rivals.fault(100.6) == (f"1 other node publishes on {publisher.topic_name} too: the arm must have one master")
    bench.robot.destroy_publisher(other)
    bench.until(lambda: bench.node.count_publishers(publisher.topic_name) == 1, "the end of the other publisher")
    assert rivals.fault(101.2) == ""


def test_a_goal_of_the_controllers_action_is_a_fault_as_long_as_it_runs(bench):
    """As MoveIt sends it. What the action is about does not matter here, and control_msgs has no wheels."""
    action = pytest.importorskip("vla_sd_msgs.action").ExecuteInstruction
    bench.node.values["arm.interface"] = "joint_trajectory"
    rivals, over = Rivals(bench.node, [make_arm(bench.node)._publisher]), Future()

    async def follow(handle):
        await over
        handle.succeed()
        return action.Result()

    name = "follow_joint_trajectory"
    servers = bench.servers

    def serve():
        servers.append(ActionServer(bench.robot, action, name, follow, callback_group=ReentrantCallbackGroup()))

    def end():
        servers.pop().destroy()

    def restart():
        end()
        serve()  # before anybody looks

    moveit = ActionClient(bench.robot, action, name)
    servers.append(moveit)
    serve()
    times = itertools.count(100.0)
    for over_with in (lambda: over.set_result(None), restart, end):
        bench.until(moveit.server_is_ready, "the action")
        bench.settle()
        assert rivals.fault(next(times)) == ""
        sent = moveit.send_goal_async(action.Goal())
        bench.until(lambda: rivals.fault(next(times)), "the fault")
        assert "drives the arm by a goal of /vla/follow_joint_trajectory: the arm must have one master" in rivals.fault(next(times))
        bench.until(sent.done, "the answer to the goal")
        over_with()
        bench.until(lambda: not rivals.fault(next(times)), "the end of the fault")
        over = Future()
