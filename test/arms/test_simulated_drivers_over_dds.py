# SPDX-License-Identifier: Apache-2.0
"""sim_arm_node over DDS: the WidowX goes where joint_group says; the Franka ignores targets while two nodes publish them."""

import time

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState

from vla_sd_ros.arms import make_gripper
from vla_sd_ros.control.gripper import Act, State
from vla_sd_ros.kinematics.pose import Pose
from vla_sd_ros.messages.poses import stamped

pytestmark = pytest.mark.usefixtures("standins")


@pytest.fixture
def simulate(bench, monkeypatch):
    from vla_sd_ros.nodes.sim_arm_node import SimArmNode

    monkeypatch.setattr(SimArmNode, "_film", lambda node: None)  # the camera is tried in the launch files
    started = []

    def begin(**values):
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        node = SimArmNode(context=bench.context, namespace="/vla", parameter_overrides=overrides)
        bench.executor.add_node(node)
        started.append(node)
        node.seen = []
        bench.robot.create_subscription(JointState, "joint_states", node.seen.append, 10)
        bench.until(lambda: node.seen, "joint states")
        return node

    yield begin
    for node in started:
        bench.executor.remove_node(node)
        node.destroy_node()


def positions(node, count):
    return np.array(node.seen[-1].position[:count])


def test_the_widowx_goes_to_the_positions_of_its_group_and_moves_its_gripper(bench, simulate):
    from interbotix_xs_msgs.msg import JointGroupCommand, JointSingleCommand

    node = simulate(robot="widowx", prefix="wx250s", modes="config/widowx_modes.yaml")

    def finger():
        return node.seen[-1].position[node.seen[-1].name.index("left_finger")]

    group = bench.robot.create_publisher(JointGroupCommand, "commands/joint_group", 1)
    single = bench.robot.create_publisher(JointSingleCommand, "commands/joint_single", 1)
    bench.until(lambda: group.get_subscription_count() and single.get_subscription_count(), "the driver")
    goal = positions(node, 6) + 0.05
    group.publish(JointGroupCommand(name="arm", cmd=goal.tolist()))
    bench.until(lambda: np.abs(positions(node, 6) - goal).max() < 1e-6, "the goal")
    opened = finger()
    single.publish(JointSingleCommand(name="gripper", cmd=-250.0))
    bench.until(lambda: finger() == pytest.approx(0.015), "a closed gripper")
    single.publish(JointSingleCommand(name="gripper", cmd=250.0))
    bench.until(lambda: finger() > 0.02, "an opening gripper")
    single.publish(JointSingleCommand(name="gripper", cmd=0.0))
    bench.settle(50)
    assert finger() == node._finger_goal < 0.037, "without effort it stays where it is"
    single.publish(JointSingleCommand(name="gripper", cmd=-250.0))
    bench.until(lambda: finger() == pytest.approx(0.015), "a closed gripper")
    assert opened == pytest.approx(0.037) and node.seen[-1].position[8] == pytest.approx(-0.015)
    group.publish(JointGroupCommand(name="arm", cmd=[1.0]))
    bench.settle(50)
    np.testing.assert_allclose(positions(node, 6), goal, atol=1e-6)


def test_the_franka_follows_one_publisher_and_refuses_two(bench, simulate):
    node = simulate(robot="franka", prefix="fr3")
    kinematics = node._arm.kinematics

    def at():
        return Pose(*kinematics.forward(positions(node, 7)))

    one = bench.robot.create_publisher(PoseStamped, "target_pose", 1)
    bench.until(one.get_subscription_count, "the controller")
    target = at().moved(np.array([0.03, 0.02, -0.02, 0.0, 0.0, 0.1]))
    one.publish(stamped(target, "", node.get_clock().now().to_msg()))
    bench.until(lambda: np.abs(at().displacement_to(target)).max() < 1e-3, "the target")
    other = bench.robot.create_publisher(PoseStamped, "target_pose", 1)
    bench.until(lambda: node.count_publishers("target_pose") == 2, "the second publisher")
    one.publish(stamped(target.moved(np.array([0.1, 0, 0, 0, 0, 0])), "", node.get_clock().now().to_msg()))
    bench.until(lambda: "2 nodes publish" in node._refusing, "the refusal")
    end = time.monotonic() + 0.5
    bench.until(lambda: time.monotonic() > end, "half a second")
    assert np.abs(at().displacement_to(target)).max() < 1e-3, "the arm moved for one of two publishers"
    bench.robot.destroy_publisher(other)


def test_the_simulated_hand_closes_opens_and_homes(bench, simulate):
    node = simulate(robot="franka", prefix="fr3")
    bench.node.values |= {"gripper.interface": "franka", "gripper.action": "franka_gripper", "gripper.open_position": 0.078}
    gripper = make_gripper(bench.node)
    bench.until(lambda: not any(gripper.missing(act) for act in Act), "the hand")
    for opening, state, finger in ((0.0, State.CLOSED, 0.0), (1.0, State.OPEN, 0.039)):
        gripper.send(bench.now, opening)
        bench.until(lambda: gripper.state() == state, state.name)
        bench.until(lambda: node.seen[-1].position[7] == pytest.approx(finger), "the fingers")
    assert gripper.home(bench.now) == "" and gripper.state() == State.MOVING
    bench.until(lambda: gripper.state() == State.OPEN, "what was wanted before homing")
