# SPDX-License-Identifier: Apache-2.0
"""~/home and ~/home_gripper of a driver move nothing while arm_node is held, in dry_run or without its enabling switch, nor
without arm_node; what begins meanwhile ends the way home. A fault of the robot forbids nothing, and ~/recover is always there."""

import time

import pytest
from std_srvs.srv import Trigger

from vla_sd_ros.control.codes import Code, Fault
from vla_sd_ros.nodes import driver_node


class Pair:
    """arm_node and a driver, each with an executor that spins while something is waited for."""

    def __init__(self, arm, driver):
        from rclpy.executors import SingleThreadedExecutor

        self.arm, self.driver, self._executors = arm, driver, []
        for node in (arm.node, driver):
            self._executors.append(SingleThreadedExecutor(context=node.context))
            self._executors[-1].add_node(node)

    def spin_until(self, condition, within=10.0):
        end = time.monotonic() + within
        while not condition():
            assert time.monotonic() < end
            for executor in self._executors:
                executor.spin_once(timeout_sec=0.005)

    def call(self, service, meanwhile=lambda: None):
        """The answer to a service of the driver; meanwhile: done as soon as its robot moves."""
        self.spin_until(lambda: not self.driver._silent())  # DDS may take seconds to find the other node
        robot, offered = self.driver.robot, next(s for s in self.driver.services if s.srv_name.endswith(f"/{service}"))
        before, done = len(robot.homed), offered.callback(Trigger.Request(), Trigger.Response())
        self.spin_until(lambda: len(robot.homed) > before or done.done())
        if not done.done():
            meanwhile()
        self.spin_until(done.done)
        return done.result()

    def refuses(self, because):
        before = len(self.driver.robot.homed)
        for service in ("home", "home_gripper"):
            answer = self.call(service)
            assert not answer.success and because in answer.message, answer.message
        assert len(self.driver.robot.homed) == before
        assert self.call("recover").success

    def hears(self, word):
        """Wait until it is what the driver was told last."""
        self.spin_until(lambda: word in self.driver._forbidden if word else not self.driver._forbidden)

    def close(self):
        for executor in self._executors:
            executor.shutdown()


@pytest.fixture
def make_pair(make_arm, make_driver):
    made = []

    def make(**parameters):
        made.append(Pair(make_arm(**parameters), make_driver()))
        return made[-1]

    yield make
    for pair in made:
        pair.close()


@pytest.mark.parametrize("state", ["unconfigured", "active"])
def test_a_hold_is_kept_until_it_is_released(make_pair, state):
    pair = make_pair()
    if state == "active":
        pair.arm.start()
    pair.arm.hold(True)
    pair.refuses("~/hold was called")
    pair.arm.hold(False)
    pair.hears("")
    assert pair.call("home").success and pair.call("home_gripper").success


def test_dry_run_moves_nothing(make_pair):
    from rclpy.parameter import Parameter

    pair = make_pair(dry_run=True)
    pair.arm.start()
    pair.refuses("dry_run is on")
    pair.arm.node.set_parameters([Parameter("dry_run", value=False)])
    pair.hears("")
    assert pair.call("home").success


def test_the_enabling_switch_counts_in_every_state(make_pair):
    from std_msgs.msg import Bool

    pair = make_pair(**{"enable.required": True, "enable.timeout": 5.0})
    pair.refuses("hears no enabling switch")
    pair.arm.start()
    pair.hears("switch is not held")
    pair.refuses("the enabling switch is not held")
    pair.arm.node._on_enable(Bool(data=True))
    pair.hears("")
    answer = pair.call("home", lambda: pair.arm.node._on_enable(Bool(data=False)))
    assert not answer.success and "the enabling switch is not held" in answer.message


def test_a_hold_ends_the_way_home(make_pair):
    pair = make_pair()
    pair.arm.start()
    answer = pair.call("home", lambda: pair.arm.hold(True))
    assert not answer.success and "~/hold was called" in answer.message


def test_without_arm_node_nobody_knows(make_driver, monkeypatch):
    monkeypatch.setattr(driver_node, "SILENCE", 0.2)
    driver = make_driver()
    with pytest.raises(driver_node.RobotError, match="nothing comes on /vla/arm_node/motion_forbidden.*start it"):
        driver._home()
    assert not driver.robot.homed


def test_a_fault_forbids_no_way_home(make_pair):
    pair = make_pair()
    pair.arm.start()
    pair.arm.node.controller.block("controller", Fault(Code.ROBOT_FAULT, "a reflex"))
    assert pair.call("home").success
