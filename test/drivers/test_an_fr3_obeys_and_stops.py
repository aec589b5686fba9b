# SPDX-License-Identifier: Apache-2.0
"""An FR3 by franky-control against franky-sim, which speaks its wire protocol (FCI 10)."""

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from vendors import Fr3

from vla_sd_ros.drivers import RobotError, franka
from vla_sd_ros.kinematics.arm import ArmKinematics

STEP = 0.01  # s
PATIENCE = 10.0  # s: what a simulator on a busy machine may take


def arm(robot, **settings):
    return franka.Franka(franka.Settings(address=robot.address, realtime=False, **settings))


@pytest.fixture(params=franka.MODES)
def pair(request):
    with Fr3() as robot:
        driver = arm(robot, mode=request.param)
        yield driver, robot
        driver.stop()


def until(condition, what):
    """The condition's first true value; fails with the sentence that what() returns."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end, what()
        time.sleep(STEP)
    return value


def joints(driver):
    """What is read once something new has come."""
    return until(driver.read, lambda: f"nothing is read: {driver.fault}").joints


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


def arrives(driver, pose, within):
    """Wait until the arm is there, to so many metres."""
    until(lambda: distance(driver, pose) < within, lambda: f"{distance(driver, pose):.4f} m away; {driver.fault}")


def rests(robot):
    """Wait until no joint moves."""
    until(lambda: robot.motion() < 0.005, lambda: "the arm does not come to rest")


def faulty(driver):
    return until(lambda: (driver.read(), driver.fault)[1], lambda: "there is no fault")


def test_it_goes_where_it_is_sent_and_holds_on_silence(pair):
    driver, robot = pair
    target = go(driver, [0.0, 0.08, 0.02])
    driver.rest()
    arrives(driver, target, 0.02)
    rests(robot)
    assert distance(driver, target) < 0.02 and not driver.fault


@pytest.mark.parametrize(
    "cause, told, still", [("reflex", "cartesian_reflex", "reflex"), ("pressed", "stop", "stop button is pressed")]
)
def test_a_reflex_and_the_stop_button_are_told_and_only_recover_ends_them(pair, cause, told, still):
    driver, robot = pair
    go(driver, [0.0, 0.03, 0.0], 0.5)
    robot.say(cause)
    assert told in faulty(driver).lower() and "~/recover" in driver.fault
    with pytest.raises(RobotError, match=still):
        driver.recover()  # what caused it is still there
    robot.say("released")
    time.sleep(0.3)
    joints(driver)
    assert driver.fault, "it recovered by itself"
    driver.recover()
    assert not driver.fault
    arrives(driver, go(driver, [0.0, -0.05, 0.0]), 0.02)


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
            until(lambda: (reading := driver.read()) and abs(sum(reading.fingers) - width) < 0.005, driver.gripper_problem)
        assert not driver.gripper_problem()
        driver.stop()


def test_a_way_home_that_is_forbidden_ends_where_the_arm_is(pair):
    driver, robot = pair
    before, said = robot.where(), iter(["", "", "", ""])
    with pytest.raises(RobotError, match="the way home was ended: the arm is held"):
        driver.home(lambda: next(said, "the arm is held"))
    rests(robot)
    stopped = robot.where()
    assert np.abs(stopped - before).max() > 0.0 and np.abs(stopped - franka.Settings(address="").home).max() > 0.1
    time.sleep(0.5)  # on a busy machine the control that was taken again may lag
    arrives(driver, go(driver, [0.0, 0.03, 0.0]), 0.02)
    assert not driver.fault


@pytest.mark.skipif(Path("/sys/kernel/realtime").exists(), reason="this kernel keeps real time, so nothing is refused")
def test_a_kernel_that_keeps_no_real_time_is_one_sentence():
    with Fr3() as robot, pytest.raises(RobotError, match="no real time.*realtime:=ignore"):
        franka.Franka(franka.Settings(address=robot.address))


def test_what_cannot_be_is_one_sentence_before_anything_moves():
    with Fr3() as robot:
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
        arrives(flange, go(flange, [0.0, 0.05, 0.0]), 0.01)
        flange.stop()
