# SPDX-License-Identifier: Apache-2.0
"""After a reflex nothing is sent to the inactive controller, no goal begins before ~/recover, and the arm stays where it is.

arm_node as a process, before a model of crisp_controllers, controller_manager and Franka's hardware; see arms/controllers.py.
"""

import sys
import time
from pathlib import Path

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from panda import Arm, command
from std_srvs.srv import SetBool, Trigger
from vla_sd_msgs.msg import ArmStatus, EndEffectorCommand

sys.path.insert(0, str(Path(__file__).parents[1] / "arms"))
PARAMETERS = {
    "autostart": True,
    "controller.name": "cartesian_impedance_controller",
    "controller.hardware": "FrankaHardwareInterface",
    "controller.recovery_action": "/action_server/error_recovery",
}
ELSEWHERE = np.array([0.3, 0.0, 0.0, 0.2, 0.0, 0.0, 0.0])  # rad, by which somebody turns the joints by hand


@pytest.fixture(scope="module", autouse=True)
def messages():
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import standins

    standins.use()


class CrispArm(Arm):
    """An arm under crisp_controllers, which stores the targets that come while it is inactive, and goes there when activated.

    With the hardware in error there are no joint states; somebody may move the arm all the same. Targets come `delay` [s] late.
    """

    def __init__(self, ros):
        from controllers import ControllerManager

        self.manager = ControllerManager(ros.node, "joint_state_broadcaster", PARAMETERS["controller.name"])
        self.stored, self.delay = None, 0.0
        self.coming, self.went = [], []  # targets with their time, joint positions to which it went
        super().__init__(ros)

    @property
    def active(self):
        return self.manager.states[PARAMETERS["controller.name"]] == "active"

    def _go(self, message):
        self.coming.append((time.monotonic() + self.delay, message))

    def _publish(self):
        while self.coming and self.coming[0][0] <= time.monotonic():
            self.stored = self.coming.pop(0)[1]
        if self.active and self.stored is not None:
            super()._go(self.stored)
            self.stored = None
            self.went.append(np.array(self.q))
        if self.manager.states["joint_state_broadcaster"] == "active":
            super()._publish()


class Seen:
    """An active arm_node before that arm, and what it publishes."""

    def __init__(self, start, ros):
        self.ros, self.arm = ros, CrispArm(ros)
        self.targets, self.statuses = ros.listen(PoseStamped, "target_pose"), ros.listen(ArmStatus, "arm_node/status")
        self.process = start("vla_sd_ros.nodes.arm_node", PARAMETERS)
        self.process.wait_for_line("is active")
        self.wait_for(ArmStatus.NO_COMMAND)

    def wait_for(self, code, words=""):
        self.ros.wait_until(
            lambda: self.statuses and self.statuses[-1][1].code == code and words in self.statuses[-1][1].message,
            f"the code {code} with '{words}'",
        )

    def drive(self, goal, steps=3):
        for step in range(steps):
            self.ros.publish(EndEffectorCommand, "command", command(goal=goal, step=step, translation=(0.0, 0.02, 0.0)))
            time.sleep(0.2)

    def recover(self):
        return self.ros.call(Trigger, "arm_node/recover", Trigger.Request())


@pytest.fixture
def seen(start, ros):
    seen = Seen(start, ros)
    yield seen
    seen.arm.manager.server.destroy()


def test_recover_brings_a_robot_back_after_a_reflex_and_nothing_moves_before_the_next_goal(seen):
    before = np.array(seen.arm.q)
    seen.drive(goal=1)
    assert np.abs(np.array(seen.arm.q) - before).max() > 0.03, "the arm never moved"
    seen.arm.manager.reflex()
    seen.wait_for(ArmStatus.ROBOT_FAULT, "is inactive")
    silent_from = len(seen.targets)
    seen.drive(goal=2)
    assert len(seen.targets) == silent_from, "targets went to an inactive controller"
    seen.wait_for(ArmStatus.ROBOT_FAULT, "~/recover")
    seen.arm.q = (np.array(seen.arm.q) + ELSEWHERE).tolist()
    there = np.array(seen.arm.q)
    assert seen.arm.manager.calls == [], "the robot was recovered though nobody asked for it"

    answer = seen.recover()
    assert answer.success, answer.message
    assert seen.arm.manager.calls == [
        "error recovery",
        "activate the hardware",
        "activate joint_state_broadcaster",
        "activate cartesian_impedance_controller",
    ]
    time.sleep(0.5)
    np.testing.assert_allclose(seen.arm.q, there, atol=1e-3)
    seen.wait_for(ArmStatus.NO_COMMAND)
    seen.drive(goal=3)
    assert seen.statuses[-1][1].code == ArmStatus.OK
    assert 0.03 < np.abs(np.array(seen.arm.q) - there).max() < 0.15


def turned_by_hand_after_a_reflex(seen, delay):
    """Joint positions [rad] at which the arm then is; the inactive controller has kept a target from before."""
    seen.arm.delay = delay
    seen.drive(goal=1)
    seen.arm.manager.reflex()
    seen.wait_for(ArmStatus.ROBOT_FAULT, "is inactive")
    time.sleep(0.5)  # until the joint states are old, and the last target has come
    assert seen.arm.stored is not None
    seen.arm.q = (np.array(seen.arm.q) + ELSEWHERE).tolist()
    seen.arm.went.clear()
    return np.array(seen.arm.q)


def stays(seen, there):
    """The arm, from the time on at which somebody turned it."""
    time.sleep(0.5)
    assert seen.arm.went, "the controller was never told where the arm is"
    np.testing.assert_allclose(seen.arm.went, np.broadcast_to(there, (len(seen.arm.went), len(there))), atol=1e-3)


@pytest.mark.parametrize("active, delay", [(True, 0.15), (False, 0.05)])  # where it is inactive it tells the pose here alone
def test_a_recovery_waits_until_the_controller_has_been_told_where_the_arm_is(seen, active, delay):
    there = turned_by_hand_after_a_reflex(seen, delay)
    assert active or seen.ros.change_state("arm_node", "deactivate")
    answer = seen.recover()
    assert answer.success, answer.message
    stays(seen, there)


def test_by_hand_the_broadcaster_a_second_before_the_controller_moves_nothing(seen):
    there = turned_by_hand_after_a_reflex(seen, delay=0.05)
    seen.arm.manager.error, seen.arm.manager.hardware = False, "active"
    seen.arm.manager.states["joint_state_broadcaster"] = "active"
    time.sleep(1.0)
    seen.arm.manager.states["cartesian_impedance_controller"] = "active"
    stays(seen, there)
    seen.wait_for(ArmStatus.ROBOT_FAULT, "is active again")
    assert seen.recover().success and seen.arm.manager.calls == []


def test_a_controller_that_somebody_activates_again_moves_nothing_and_waits_for_recover(seen):
    seen.drive(goal=1)
    seen.arm.manager.states["cartesian_impedance_controller"] = "inactive"
    seen.wait_for(ArmStatus.ROBOT_FAULT, "is inactive")
    seen.arm.q = (np.array(seen.arm.q) + ELSEWHERE).tolist()  # joint states go on
    there = np.array(seen.arm.q)
    time.sleep(0.5)
    seen.arm.manager.states["cartesian_impedance_controller"] = "active"
    seen.wait_for(ArmStatus.ROBOT_FAULT, "is active again")
    seen.drive(goal=2)
    np.testing.assert_allclose(seen.arm.q, there, atol=1e-3)
    assert seen.recover().success and seen.arm.manager.calls == []
    seen.drive(goal=3)
    assert seen.statuses[-1][1].code == ArmStatus.OK


def test_a_recovery_that_fails_says_why_and_a_hold_outlives_one_that_succeeds(seen):
    seen.drive(goal=1)
    seen.ros.call(SetBool, "arm_node/hold", SetBool.Request(data=True))
    seen.arm.manager.reflex()
    seen.arm.manager.recoverable = False
    time.sleep(0.6)  # until the controllers have been looked at
    answer = seen.recover()
    assert not answer.success and "/action_server/error_recovery did not succeed" in answer.message
    assert seen.arm.manager.calls == ["error recovery"]
    seen.arm.manager.recoverable = True
    assert seen.recover().success
    seen.drive(goal=2)
    assert seen.statuses[-1][1].code == ArmStatus.HELD
