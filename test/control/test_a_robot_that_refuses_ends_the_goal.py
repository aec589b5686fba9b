# SPDX-License-Identifier: Apache-2.0
"""After a fault of the robot's side the arm comes to rest, the goal takes no further command, and the next goal does."""

import numpy as np

from vla_sd_ros.control.codes import Code, Fault
from vla_sd_ros.control.controller import ArmController, Command, Config
from vla_sd_ros.kinematics.pose import Pose

START = Pose(np.array([0.4, 0.0, 0.3]), np.eye(3))


def command(goal: bytes, step: int = 0) -> Command:
    return Command(goal, step, "panda_link0", False, np.array([0.02, 0.0, 0.0]), np.zeros(3), 1.0, 0.2)


def test_the_arm_rests_until_the_next_goal():
    controller, now = ArmController(Config(), 0.0), 0.0

    def tick(count):
        nonlocal now
        for _ in range(count):
            now += 0.01
            controller.measure(START, now)
            controller.tick(now)

    tick(1)
    controller.command(command(b"one"), now)
    tick(10)
    controller.end(Fault(Code.ROBOT_FAULT, "the test says so"))
    assert controller.status(now).code == Code.ROBOT_FAULT and "the test says so" in controller.status(now).message
    tick(int(100 * Config().limits.stopping_time()) + 2)
    assert controller.at_rest
    controller.command(command(b"one", 1), now)
    tick(5)
    status = controller.status(now)
    assert controller.at_rest and (status.code, status.refused) == (Code.ROBOT_FAULT, 1)
    controller.command(command(b"two"), now)
    tick(5)
    assert controller.status(now).code == Code.OK and not controller.at_rest


def test_a_fault_while_nothing_runs_changes_nothing():
    controller = ArmController(Config(), 0.0)
    controller.end(Fault(Code.ROBOT_FAULT, "early"))
    controller.measure(START, 0.0)
    assert controller.status(0.0).code == Code.NO_COMMAND
