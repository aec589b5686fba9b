# SPDX-License-Identifier: Apache-2.0
"""interbotix_joint_group sends the group's joints at its own rate; joint_single an effort that ends, or a position; neither
what the mode of the motors makes something else of.
"""

import numpy as np
import pytest
from controllers import DT
from processes import LATCHED
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from vla_sd_ros.arms import make_arm, make_gripper

pytestmark = pytest.mark.usefixtures("standins")


@pytest.fixture
def driver(bench):
    """What the driver answers about its group of motors, and about a single one."""
    from interbotix_xs_msgs.srv import RobotInfo

    says = {
        "group": RobotInfo.Response(mode="position", joint_names=bench.node.values["joint_names"]),
        "single": RobotInfo.Response(mode="pwm", joint_names=["left_finger"]),
    }
    bench.robot.create_service(RobotInfo, "get_robot_info", lambda request, _: says[request.cmd_type])
    return says


def test_the_group_gets_joint_positions_at_its_rate(bench, driver):
    from interbotix_xs_msgs.msg import JointGroupCommand

    bench.node.values |= {"arm.interface": "interbotix_joint_group", "interbotix.rate": 20.0}
    arm, seen = make_arm(bench.node), []
    bench.robot.create_subscription(JointGroupCommand, "commands/joint_group", seen.append, 200)
    bench.until(arm._publisher.get_subscription_count, "the driver")
    target = bench.pose
    bench.until(lambda: arm.fault(bench.now) or arm._mode.info, "the mode")
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


def test_a_group_that_would_take_positions_for_something_else_gets_none(bench, driver):
    from interbotix_xs_msgs.msg import JointGroupCommand

    bench.node.values |= {"arm.interface": "interbotix_joint_group"}
    arm, seen = make_arm(bench.node), []
    bench.robot.create_subscription(JointGroupCommand, "commands/joint_group", seen.append, 200)
    bench.until(arm._publisher.get_subscription_count, "the driver")

    def fault() -> str:
        """A second later, when the driver was asked again; what arm_node does at every tick."""
        answers, bench.now = arm._mode.info, bench.now + 1.1
        bench.until(lambda: arm.fault(bench.now) is None or arm._mode.info is not answers, "an answer")
        fault = arm.fault(bench.now)
        arm.send(bench.now, bench.pose, bench.pose, bench.joints(bench.pose))  # whatever the fault: other arms brake
        bench.settle()
        return fault

    arm.send(bench.now, bench.pose, bench.pose, bench.joints(bench.pose))
    bench.settle()
    assert not seen, "the mode is not known"
    assert fault() == "" and len(seen) == 1
    names = driver["group"].joint_names
    driver["group"].mode = "velocity"
    assert "the group 'arm' of Interbotix's driver is in the mode 'velocity'" in fault()
    driver["group"].mode, driver["group"].joint_names = "position", names[::-1]
    assert f"joint_names of arm_node {', '.join(names)}: both must be the same, in the same order" in fault()
    driver["group"].joint_names = []
    assert "Interbotix's driver has no group 'arm': correct interbotix.group" in fault()
    assert len(seen) == 1
    driver["group"].joint_names = names
    assert fault() == "" and len(seen) == 2


def test_a_driver_that_does_not_tell_its_modes_gets_nothing(bench):
    bench.node.values |= {"arm.interface": "interbotix_joint_group"}
    arm = make_arm(bench.node)
    assert arm._mode.unknown(bench.now) == ""
    for _ in range(250):
        bench.now += DT
        arm._mode.ask(bench.now)
    assert "nobody answers /vla/get_robot_info: start Interbotix's driver" in arm._mode.unknown(bench.now)


URDF = """<robot name="wx250s"><link name="a"/><link name="b"/>
<joint name="left_finger" type="prismatic"><parent link="a"/><child link="b"/>
<limit lower="0.015" upper="0.037" effort="5" velocity="1"/></joint></robot>"""


class Fingers:
    """A gripper, the commands that its driver sees, and where the driver's joint states say that the fingers are."""

    def __init__(self, bench, **values):
        from interbotix_xs_msgs.msg import JointSingleCommand

        bench.node.values |= {
            "gripper.interface": "interbotix_joint_single",
            "gripper.open_position": 250.0,
            "gripper.closed_position": -250.0,
            "gripper.finger": "left_finger",
        } | values
        self.bench, self.gripper, self.seen = bench, make_gripper(bench.node), []
        assert "nobody listens to /vla/commands/joint_single" in self.gripper.problem()
        bench.robot.create_subscription(JointSingleCommand, "commands/joint_single", self._heard, 10)
        self._states = bench.robot.create_publisher(JointState, "joint_states", 10)
        bench.robot.create_publisher(String, "robot_description", LATCHED).publish(String(data=URDF))
        bench.until(self.gripper._publisher.get_subscription_count, "the driver")
        self.ask()

    def ask(self):
        """Let a second pass, and the driver be asked for its mode."""
        before, self.bench.now = self.gripper._mode.info, self.bench.now + 1.1
        self.bench.until(lambda: self.gripper.poll(self.bench.now) or self.gripper._mode.info is not before, "the mode")

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


def test_the_effort_is_taken_back_where_the_fingers_end_and_kept_on_an_object(bench, driver):
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


def test_an_opening_gripper_pushes_for_two_seconds_at_most(bench, driver):
    fingers = Fingers(bench)
    fingers.send(1.0)
    fingers.at(0.030, 1.5)
    assert fingers.seen == [250.0]
    fingers.at(0.030, 1.0)
    assert fingers.seen == [250.0, 0.0]


def test_at_rest_no_effort_is_on(bench, driver):
    fingers = Fingers(bench)
    fingers.send(0.0)
    fingers.at(0.025)
    fingers.gripper.rest()
    bench.until(lambda: fingers.seen == [-250.0, 0.0], "no effort")
    fingers.send(0.0)
    assert fingers.seen == [-250.0, 0.0, -250.0]


def test_positions_are_not_taken_back(bench, driver):
    driver["single"].mode = "ext_position"
    fingers = Fingers(bench, **{"gripper.finger": "", "gripper.open_position": 0.037, "gripper.closed_position": 0.015})
    fingers.send(1.0)
    bench.now += 60.0
    fingers.gripper.poll(bench.now)
    fingers.gripper.rest()
    bench.settle()
    assert fingers.seen == [pytest.approx(0.037)] and fingers.gripper.problem() == ""


@pytest.mark.parametrize(
    "mode, values, said",
    [
        ("linear_position", {}, "is in the mode 'linear_position', in which nothing pushes: leave gripper.finger empty"),
        ("velocity", {}, "is in the mode 'velocity', in which nothing pushes"),
        ("pwm", {"gripper.finger": ""}, "is in the mode 'pwm', which takes no positions: name gripper.finger"),
        (
            "linear_position",
            {"gripper.finger": "", "gripper.open_position": 0.07, "gripper.closed_position": 0.015},
            "gripper.closed_position is 0.015, but in the mode linear_position it is the distance of the two fingers from each other: "
            "0.030 .. 0.074 m",
        ),
    ],
)
def test_a_wish_that_the_motor_would_take_for_something_else_waits_for_the_mode(bench, driver, mode, values, said):
    driver["single"].mode = mode
    driver["single"].joint_lower_limits, driver["single"].joint_upper_limits = [0.015], [0.037]
    fingers = Fingers(bench, **values)
    fingers.gripper.send(bench.now, 0.0, b"goal")
    bench.settle()
    assert said in fingers.gripper.problem() and fingers.seen == []
    driver["single"].mode = "position" if values else "current"
    fingers.ask()
    fingers.send(0.0)
    assert len(fingers.seen) == 1


def test_an_effort_ends_with_the_mode_that_it_was_for(bench, driver):
    fingers = Fingers(bench)
    fingers.send(0.0)
    driver["single"].mode = "linear_position"
    fingers.ask()
    fingers.gripper.rest()
    bench.settle()
    assert fingers.seen == [-250.0], "in another mode 0 is a place to go to"


@pytest.mark.parametrize("late, seen", [(0.5, [-250.0]), (10.0, [])])
def test_a_wish_waits_for_the_first_answer_but_not_for_long(bench, driver, late, seen):
    fingers = Fingers(bench)
    fingers.gripper._mode.forget()  # as when arm_node has just begun
    fingers.gripper.send(bench.now, 0.0, b"goal")
    bench.now += late
    bench.until(lambda: fingers.gripper.poll(bench.now) or fingers.gripper._mode.info, "the mode")
    fingers.gripper.poll(bench.now)
    bench.settle()
    assert fingers.seen == seen
