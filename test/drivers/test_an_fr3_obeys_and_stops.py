# SPDX-License-Identifier: Apache-2.0
"""An FR3 by franky-control against franky-sim, which speaks its wire protocol (FCI 10)."""
import os
import threading
import time

import numpy as np
import pytest
from vendors import Fr3

from vla_sd_ros.drivers import RobotError, franka
from vla_sd_ros.kinematics.arm import ArmKinematics

STEP = 0.01  # s


def arm(robot, **settings):
    return franka.Franka(franka.Settings(address=robot.address, realtime=False, **settings))


@pytest.fixture(params=franka.MODES)
def pair(request):
    with Fr3() as robot:
        driver = arm(robot, mode=request.param)
        yield driver, robot
        driver.stop()


def joints(driver):
    """What is read once something new has come."""
    for _ in range(50):
        if reading := driver.read():
            return reading.joints
        time.sleep(STEP)
    raise AssertionError(driver.fault)


def go(driver, way, seconds=1.0):
    """Send targets on a straight way (3,) [m]; returns the last."""
    start = last = driver.pose(joints(driver))
    count = int(seconds / STEP)
    for share in np.arange(1, count + 1) / count:
        target = start.moved(np.array([*(np.array(way) * (3 * share**2 - 2 * share**3)), 0, 0, 0]))
        driver.follow(target, last.displacement_to(target) / STEP)
        last = target
        driver.read()
        time.sleep(STEP)
    return last


def distance(driver, pose):
    return np.linalg.norm(driver.pose(joints(driver)).position - pose.position)


def faulty(driver, seconds=2.0):
    end = time.monotonic() + seconds
    while not driver.fault and time.monotonic() < end:
        driver.read()
        time.sleep(STEP)
    return driver.fault


def test_it_goes_where_it_is_sent_and_holds_on_silence(pair):
    driver, robot = pair
    target = go(driver, [0.0, 0.08, 0.02])
    driver.rest()
    time.sleep(1.0)
    assert robot.motion() < 0.005 and distance(driver, target) < 0.02 and not driver.fault


def test_a_reflex_is_told_in_frankas_words_and_only_recover_ends_it(pair):
    driver, robot = pair
    go(driver, [0.0, 0.03, 0.0], 0.5)
    robot.say("reflex")
    assert "cartesian_reflex" in faulty(driver) and "~/recover" in driver.fault
    with pytest.raises(RobotError, match="reflex"):
        driver.recover()  # what caused it is still there
    robot.say("released")
    time.sleep(0.3)
    joints(driver)
    assert driver.fault, "it recovered by itself"
    driver.recover()
    assert not driver.fault
    target = go(driver, [0.0, -0.05, 0.0])
    time.sleep(0.7)
    assert distance(driver, target) < 0.02


def test_pythons_threads_stay_ordinary_ones(pair):
    driver, _ = pair
    go(driver, [0.0, 0.02, 0.0], 0.3)
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
    assert not [thread for thread in threading.enumerate() if os.sched_getscheduler(thread.native_id) != os.SCHED_OTHER]


def test_home_and_the_hand():
    with Fr3() as robot:
        driver = arm(robot, home_dynamics=0.5)
        driver.home_gripper()
        driver.home()
        assert np.abs(joints(driver) - franka.Settings(address="").home).max() < 0.03 and not driver.fault
        for wish, width in ((0.0, 0.0), (0.078, 0.078)):
            driver.grip(wish)
            end = time.monotonic() + 5.0
            while (reading := driver.read()) is None or abs(sum(reading.fingers) - width) > 0.005:
                assert time.monotonic() < end, driver.gripper_problem()
                time.sleep(STEP)
        assert not driver.gripper_problem()
        driver.stop()


def test_what_cannot_be_is_one_sentence_before_anything_moves():
    with Fr3() as robot:
        with pytest.raises(RobotError, match="no real time.*realtime:=ignore"):
            franka.Franka(franka.Settings(address=robot.address))  # this kernel is an ordinary one
        with pytest.raises(RobotError, match=r"home puts fr3_joint2 to 3.000 rad"):
            arm(robot, home=(0.0, 3.0, 0.0, -1.5, 0.0, 1.5, 0.0))
    with pytest.raises(RobotError, match="no Franka answers at '127.0.0.9'"):
        franka.Franka(franka.Settings(address="127.0.0.9", realtime=False))


def test_a_robot_that_is_gone_is_a_fault_and_nothing_is_measured():
    with Fr3() as robot:
        driver = arm(robot)
        joints(driver)
        robot.kill()
        assert "the robot says nothing any more" in faulty(driver) or "no connection" in driver.fault
        assert driver.read() is None
        with pytest.raises(RobotError, match="no Franka answers"):
            driver.recover()
        driver.stop()


def test_the_tip_is_mapped_to_the_frame_that_desk_says():
    with Fr3() as robot:
        driver = arm(robot)
        kinematics = ArmKinematics(driver.description, "fr3_link8", [f"fr3_joint{i}" for i in range(1, 8)], "fr3_link0")
        driver.stop()
        flange = arm(robot, tip="fr3_link8")
        q = joints(flange)
        here = flange.pose(q)
        np.testing.assert_allclose(here.position, kinematics.forward(q)[0], atol=1e-9)
        assert np.linalg.norm(flange._offset.position - [0.0, 0.0, 0.1034]) < 1e-3
        target = go(flange, [0.0, 0.05, 0.0])
        time.sleep(0.7)
        assert distance(flange, target) < 0.01
        flange.stop()
