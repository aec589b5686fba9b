# SPDX-License-Identifier: Apache-2.0
"""A driver's robot is told that the target stands as soon as no more come, not only when it is to rest."""

from types import SimpleNamespace

import numpy as np

from vla_sd_ros.drivers.gate import PAUSE, STANDING
from vla_sd_ros.nodes import driver_node


def send(driver, way, stamp):
    from builtin_interfaces.msg import Time

    from vla_sd_ros.messages.poses import stamped

    pose = driver.robot.here.moved(np.array([way, 0.0, 0.0, 0.0, 0.0, 0.0]))
    driver._on_target(stamped(pose, "base", Time(sec=10, nanosec=round(1e9 * stamp))))


def test_a_target_that_is_the_last_one_stands(make_driver, monkeypatch):
    driver, clock = make_driver(), [100.0]
    monkeypatch.setattr(driver_node, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    driver._step()
    for step in range(3):
        clock[0] += 0.01
        send(driver, 0.001 * step, 0.01 * step)
        driver._step()
    robot = driver.robot
    target, twist = robot.followed[-1]
    np.testing.assert_allclose(twist, [0.1, 0, 0, 0, 0, 0], atol=1e-6)
    rests = robot.rests
    clock[0] += 1.1 * STANDING
    driver._step()
    assert robot.followed[-1][0] is target and not robot.followed[-1][1].any() and robot.rests == rests
    clock[0] += PAUSE
    driver._step()
    assert robot.rests == rests + 1
