# SPDX-License-Identifier: Apache-2.0
"""interbotix_joint_group sends the group's joints at its own rate; joint_single an effort that ends, or a position."""

import numpy as np
import pytest
from controllers import DT
from processes import LATCHED
from sensor_msgs.msg import JointState
from std_msgs.msg import String

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


URDF = """<robot name="wx250s"><link name="a"/><link name="b"/>
<joint name="left_finger" type="prismatic"><parent link="a"/><child link="b"/>
<limit lower="0.015" upper="0.037" effort="5" velocity="1"/></joint></robot>"""


class Fingers:
    """A gripper, the commands that its driver sees, and where the driver's joint states say that the fingers are."""

    def __init__(self, bench, **values):
        from interbotix_xs_msgs.msg import JointSingleCommand

        bench.node.values |= {"gripper.interface": "interbotix_joint_single", "gripper.open_position": 250.0,
                              "gripper.closed_position": -250.0, "gripper.finger": "left_finger"} | values
        self.bench, self.gripper, self.seen = bench, make_gripper(bench.node), []
        assert "nobody listens to /vla/commands/joint_single" in self.gripper.problem()
        bench.robot.create_subscription(JointSingleCommand, "commands/joint_single", self._heard, 10)
        self._states = bench.robot.create_publisher(JointState, "joint_states", 10)
        bench.robot.create_publisher(String, "robot_description", LATCHED).publish(String(data=URDF))
        bench.until(self.gripper._publisher.get_subscription_count, "the driver")

    def _heard(self, message):
        assert message.name == "gripper"
        self.seen.append(message.cmd)

    def send(self, opening):
        count = len(self.seen)
        self.gripper.send(self.bench.now, opening, b"goal")
        self.bench.until(lambda: len(self.seen) == count + 1, "a command")

    def at(self, position, seconds=0.1):
        """The fingers are there for so long."""
        self._states.publish(JointState(name=["waist", "left_finger"], position=[0.0, position]))
        self.bench.until(lambda: self.gripper._finger == position, "joint states")
        self.bench.now += seconds
        self.gripper.poll(self.bench.now)
        self.bench.settle()


def test_the_effort_is_taken_back_where_the_fingers_end_and_kept_on_an_object(bench):
    fingers = Fingers(bench)
    fingers.send(0.0)
    assert "joint_states has no left_finger" in fingers.gripper.problem()
    fingers.at(0.037)
    bench.until(lambda: not fingers.gripper.problem(), "the limits")
    fingers.at(0.025, 60.0)
    assert fingers.seen == [-250.0], "an object is held with the effort"
    fingers.at(0.0155)
    assert fingers.seen == [-250.0, 0.0], "nothing is there, so the motor would push against its end for ever"
    fingers.gripper.send(bench.now, 0.0, b"goal")
    fingers.at(0.0155)
    assert fingers.seen == [-250.0, 0.0], "what is wanted still is not sent again"
    fingers.send(1.0)
    fingers.at(0.0365)
    assert fingers.seen == [-250.0, 0.0, 250.0, 0.0]


def test_an_opening_gripper_pushes_for_two_seconds_at_most(bench):
    fingers = Fingers(bench)
    fingers.send(1.0)
    fingers.at(0.030, 1.5)
    assert fingers.seen == [250.0]
    fingers.at(0.030, 1.0)
    assert fingers.seen == [250.0, 0.0]


def test_at_rest_no_effort_is_on(bench):
    fingers = Fingers(bench)
    fingers.send(0.0)
    fingers.at(0.025)
    fingers.gripper.rest()
    bench.until(lambda: fingers.seen == [-250.0, 0.0], "no effort")
    fingers.send(0.0)
    assert fingers.seen == [-250.0, 0.0, -250.0]


def test_positions_are_not_taken_back(bench):
    fingers = Fingers(bench, **{"gripper.finger": "", "gripper.open_position": 0.037, "gripper.closed_position": 0.015})
    fingers.send(1.0)
    bench.now += 60.0
    fingers.gripper.poll(bench.now)
    fingers.gripper.rest()
    bench.settle()
    assert fingers.seen == [pytest.approx(0.037)] and fingers.gripper.problem() == ""
