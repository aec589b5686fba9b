# SPDX-License-Identifier: Apache-2.0
"""A driver sends its robot nothing that is no number or in another frame, and obeys neither of two nodes that command it."""

import time

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from std_msgs.msg import Float64

from vla_sd_ros.messages.poses import stamped
from vla_sd_ros.nodes import driver_node


@pytest.fixture
def driver(make_driver):
    driver = make_driver()
    driver._step()  # now it knows where the arm is
    return driver


def target(driver, frame="base"):
    """Where the arm is."""
    return stamped(driver.robot.here, frame, driver.get_clock().now().to_msg())


def obeys(driver) -> bool:
    before = len(driver.robot.followed)
    driver._on_target(target(driver))
    return len(driver.robot.followed) > before


@pytest.mark.parametrize("part", ["position", "orientation"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_target_that_is_no_number(driver, part, value):
    message = target(driver)
    getattr(message.pose, part).y = value
    driver._on_target(message)
    assert not driver.robot.followed
    assert obeys(driver)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_wish_of_the_gripper_that_is_no_number(driver, value):
    driver._on_gripper(Float64(data=value))
    assert not driver.robot.gripped
    driver._on_gripper(Float64(data=0.02))
    assert driver.robot.gripped == [0.02]


def test_a_target_in_another_frame(driver):
    driver._on_target(target(driver, frame="world"))
    assert not driver.robot.followed
    assert obeys(driver)


def test_two_nodes_that_command_it_until_one_is_gone(driver, monkeypatch):
    assert obeys(driver)
    monkeypatch.setattr(driver_node, "GRAPH_PERIOD", 0.0)
    nodes = [driver.create_publisher(PoseStamped, "target_pose", 1) for _ in range(2)]
    until(lambda: not obeys(driver))
    driver._step()
    assert driver._told == "2 nodes publish /vla/target_pose: the arm must have one master"
    driver.destroy_publisher(nodes.pop())
    until(lambda: (driver._step(), not driver._told)[1])  # though no target comes: arm_node sends none meanwhile
    assert obeys(driver)


def until(condition):
    end = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
