# SPDX-License-Identifier: Apache-2.0
"""A WidowX AI by trossen-arm against trossen-arm-sim, which speaks its wire protocol and rejects nothing."""

import threading
import time

import numpy as np
import pytest
from test_an_fr3_obeys_and_stops import arrives, distance, faulty, go, joints, rests, until
from vendors import WidowXAI

from vla_sd_ros.drivers import RobotError, wxai
from vla_sd_ros.kinematics.pose import Pose

SETTINGS = dict(address="127.0.0.1", home_speed=2.0)


@pytest.fixture(scope="module")
def robot():
    with WidowXAI() as robot:
        yield robot


@pytest.fixture
def driver(robot):
    driver = wxai.WidowXAI(wxai.Settings(**SETTINGS))
    driver.home()
    yield driver
    driver.stop()


def test_it_goes_where_it_is_sent_and_holds(driver, robot):
    target = go(driver, [0.0, 0.06, 0.03])
    arrives(driver, target, 0.01)
    rests(robot)
    assert distance(driver, target) < 0.01 and not driver.fault


def test_a_way_home_that_is_forbidden_ends_where_the_arm_is(driver, robot):
    arrives(driver, go(driver, [0.0, 0.10, 0.03], 2.0), 0.01)
    said = iter(["", ""])
    with pytest.raises(RobotError, match="the way home was ended: the arm is held"):
        driver.home(lambda: next(said, "the arm is held"))
    rests(robot)
    assert np.abs(robot.where()[:6] - wxai.Settings(**SETTINGS).home).max() > 0.05
    arrives(driver, go(driver, [0.0, 0.02, 0.0]), 0.01)


def test_its_own_pose_is_that_of_our_description(driver, robot):
    rests(robot)
    there = np.array(driver._driver.get_cartesian_positions())
    ours = driver.pose(joints(driver))
    np.testing.assert_allclose(ours.position, there[:3], atol=2e-3)


def test_what_it_does_not_reject_is_rejected_here(driver, robot):
    before = robot.where()
    for far in ([2.0, 0.0, 0.3], [0.0, 0.0, -3.0]):
        with pytest.raises(RobotError, match="refused"):
            driver.follow(Pose(np.array(far), np.eye(3)), np.zeros(6))
    other = driver._kinematics.forward(np.array([1.5, 1.0, 0.9, 0.2, 0.0, 0.0]))
    with pytest.raises(RobotError, match="at once"):
        driver.follow(Pose(*other), np.zeros(6))
    here = driver.pose(joints(driver))
    with pytest.raises(RobotError, match="not finite"):
        driver.follow(Pose(np.array([np.nan, *here.position[1:]]), here.rotation), np.zeros(6))
    with pytest.raises(RobotError, match="not finite"):
        driver.follow(Pose(here.position, np.full((3, 3), np.inf)), np.zeros(6))
    fingers = until(driver.read, lambda: driver.fault).fingers
    for wish in (np.nan, np.inf, -np.inf):
        driver.grip(wish)
    time.sleep(0.3)
    assert np.abs(robot.where() - before).max() < 0.02 and not driver.fault
    assert until(driver.read, lambda: driver.fault).fingers == pytest.approx(fingers, abs=1e-3)
    with pytest.raises(RobotError, match="home puts joint_1 to -1.000 rad"):
        driver.stop()
        wxai.WidowXAI(wxai.Settings(**SETTINGS, home=(0.0, -1.0, 0.5, 0.0, 0.0, 0.0)))


def test_the_gripper_moves(driver):
    for wish in (0.03, 9.0, -1.0):
        driver.grip(wish)
        until(
            lambda: (reading := driver.read()) and abs(reading.fingers[0] - np.clip(wish, 0.0, 0.044)) < 0.003,
            lambda: f"the fingers do not go to {wish}",
        )


def test_an_error_is_told_in_its_words_and_only_recover_ends_it(driver, robot):
    joints(driver)
    robot.say("overheated")
    assert "overheated" in faulty(driver) and "~/recover" in driver.fault
    time.sleep(0.3)
    assert driver.read() is None and driver.fault
    driver.recover()
    assert not driver.fault
    arrives(driver, go(driver, [0.0, -0.04, 0.0]), 0.01)


def test_a_recovery_without_a_fault_tells_no_joints_that_are_not_the_arms(driver):
    here, seen = joints(driver), []
    thread = threading.Thread(target=driver.recover)
    thread.start()
    while thread.is_alive():
        if reading := driver.read():
            seen.append(np.abs(reading.joints - here).max())
    arrives(driver, go(driver, [0.0, 0.03, 0.0]), 0.01)
    assert not driver.fault and max(seen, default=0.0) < 0.05


def test_firmware_that_does_not_fit_is_one_sentence(robot):
    robot.kill()
    with WidowXAI("1.10"), pytest.raises(RobotError, match="the arm's firmware does not fit trossen-arm 1.11"):
        wxai.WidowXAI(wxai.Settings(**SETTINGS))
