# SPDX-License-Identifier: Apache-2.0
"""interbotix_joint_group sends the group's joints at its own rate; joint_single gets the value of the gripper's mode."""

import numpy as np
import pytest
from controllers import DT

from vla_sd_ros.arms import make_arm, make_gripper

pytestmark = pytest.mark.usefixtures("standins")


def test_the_group_gets_joint_positions_at_its_rate(bench):
    from interbotix_xs_msgs.msg import JointGroupCommand

    bench.node.values |= {"arm.interface": "interbotix_joint_group", "interbotix.rate": 20.0}
    arm, seen = make_arm(bench.node), []
    bench.robot.create_subscription(JointGroupCommand, "commands/joint_group", seen.append, 200)
    bench.until(arm._publisher.get_subscription_count, "the driver")
    target = bench.pose
    for _ in range(100):
        bench.now += DT
        target = target.moved(np.array([0.001, 0.0, 0.0, 0.0, 0.0, 0.0]))
        arm.send(bench.now, target, bench.pose, bench.joints(target))
        bench.settle(2)
    bench.until(lambda: len(seen) >= 20, "20 messages")
    assert len(seen) in (20, 21) and arm.fault(bench.now) == ""
    assert {m.name for m in seen} == {"arm"} and {len(m.cmd) for m in seen} == {7}
    reached, _ = bench.kinematics.forward(np.array(seen[-1].cmd))
    np.testing.assert_allclose(reached, target.position, atol=6e-3)  # at most the ticks since the last message


def test_the_gripper_gets_the_value_of_its_mode(bench):
    from interbotix_xs_msgs.msg import JointSingleCommand

    bench.node.values |= {"gripper.interface": "interbotix_joint_single", "gripper.open_position": 250.0,
                          "gripper.closed_position": -250.0}
    gripper, seen = make_gripper(bench.node), []
    assert "nobody listens to /vla/commands/joint_single" in gripper.problem()
    bench.robot.create_subscription(JointSingleCommand, "commands/joint_single", seen.append, 10)
    bench.until(lambda: not gripper.problem(), "the driver")
    gripper.send(bench.now, 1.0)
    bench.until(lambda: len(seen) == 1, "a command")
    gripper.send(bench.now, 0.0)
    bench.until(lambda: len(seen) == 2, "a second command")
    assert [(m.name, m.cmd) for m in seen] == [("gripper", 250.0), ("gripper", -250.0)]
