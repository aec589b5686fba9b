# SPDX-License-Identifier: Apache-2.0
"""What the gripper does, and what it fails to do, is in arm_node's ~/status; homing is a service, refused in a goal."""

import itertools

import pytest
from franka_gripper import FrankaGripperNode, serve
from franka_hand import Hand
from panda import HOME, NAMES, command, urdf
from processes import LATCHED
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from vla_sd_msgs.msg import ArmStatus, EndEffectorCommand

pytestmark = pytest.mark.usefixtures("standins")


@pytest.fixture
def arm_node(bench):
    """Active, with the interface franka, before an arm that stands still; `statuses`: what it has published."""
    from vla_sd_ros.nodes.arm_node import ArmNode

    values = {"gripper.interface": "franka", "gripper.action": "franka_gripper", "gripper.open_position": 0.08}
    node = ArmNode(
        "arm_node",
        context=bench.context,
        namespace="/vla",
        parameter_overrides=[Parameter(name, value=value) for name, value in values.items()],
    )
    bench.executor.add_node(node)
    node.statuses = []
    bench.robot.create_subscription(ArmStatus, "arm_node/status", node.statuses.append, LATCHED)
    bench.robot.create_publisher(String, "robot_description", LATCHED).publish(String(data=urdf()))
    joints = bench.robot.create_publisher(JointState, "joint_states", 10)

    def stand():
        message = JointState(name=NAMES, position=list(HOME))
        message.header.stamp = bench.robot.get_clock().now().to_msg()
        joints.publish(message)

    bench.robot.create_timer(0.02, stand)
    node.trigger_configure()
    node.trigger_activate()
    bench.until(lambda: node.statuses and "no usable joint states" not in node.statuses[-1].message, "joint states")
    yield node
    bench.executor.remove_node(node)
    node.trigger_deactivate()
    node.trigger_cleanup()
    node.destroy_node()


def test_a_hand_that_was_not_homed_is_told_in_status_and_homed_by_the_service(bench, arm_node):
    driver = FrankaGripperNode(bench, Hand(width=0.03, max_width=0.0))
    serve(bench, driver)
    commands = bench.robot.create_publisher(EndEffectorCommand, "command", 1)
    homing = bench.robot.create_client(Trigger, "arm_node/home_gripper")
    bench.until(lambda: commands.get_subscription_count() and homing.service_is_ready(), "arm_node")

    def home():
        answer = homing.call_async(Trigger.Request())
        return bench.until(lambda: answer.done() and answer.result(), "an answer")

    steps = itertools.count()
    goal = bench.robot.create_timer(0.2, lambda: commands.publish(command(step=next(steps), gripper=1.0)))
    bench.until(lambda: "call ~/home_gripper" in arm_node.statuses[-1].gripper_message, "the sentence about homing", 15.0)
    assert "/vla/franka_gripper/move says: Command failed!" in arm_node.statuses[-1].gripper_message
    busy = home()
    assert not busy.success and "executes a goal" in busy.message
    goal.cancel()
    commands.publish(command(hold=True))
    bench.until(lambda: arm_node.statuses[-1].state == ArmStatus.HOLDING, "a hold")
    assert home().success
    bench.until(lambda: arm_node.statuses[-1].gripper == ArmStatus.GRIPPER_OPEN, "an open gripper", 15.0)
    assert arm_node.statuses[-1].gripper_message == "" and driver.hand.width == pytest.approx(0.079, abs=1e-4)
