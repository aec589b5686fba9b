# SPDX-License-Identifier: Apache-2.0
"""A WidowX 250 S behind Interbotix's driver obeys arm_node, holds on silence, and gets nothing that its modes make something
else of; before sim_arm_node and before Interbotix's own simulated driver, see interbotix_driver.py.
"""

import time

import numpy as np
import pytest
from interbotix_driver import MODES, NAME
from panda import command
from vla_sd_msgs.msg import ArmStatus, EndEffectorCommand

from vla_sd_ros.control.codes import Code

PERIOD = 0.2  # s


def modes(arm: str = "position", gripper: str = "pwm") -> dict:
    return {
        "groups": {"arm": MODES["groups"]["arm"] | {"operating_mode": arm}},
        "singles": {"gripper": MODES["singles"]["gripper"] | {"operating_mode": gripper}},
    }


def send(ros, goal: int, steps: int = 1, way: float = 0.0, gripper: float = 1.0) -> None:
    """One goal of some steps, each `way` [m] upwards."""
    for step in range(steps):
        ros.publish(
            EndEffectorCommand,
            "command",
            command(goal, step, (0.0, 0.0, way), gripper=gripper, period=PERIOD, frame=f"{NAME}/base_link"),
        )
        time.sleep(PERIOD)


def efforts(driver) -> list[float]:
    """What the gripper was told, the newest last."""
    return [0.0, *(message.cmd for _, message in driver.singles)]


def test_a_goal_moves_the_arm_and_silence_holds_it(interbotix, start, ros):
    driver = interbotix()
    names = driver.states[-1][1].name
    assert list(names) == [*driver.description.joints, "gripper", "left_finger", "right_finger"]
    driver.home()
    statuses = driver.arm_node(start)
    before, turned = driver.position(), driver.joints()
    send(ros, 1, steps=6, way=0.01)
    ros.wait_until(lambda: statuses[-1][1].state == ArmStatus.HOLDING, "the end of the motion")
    driver.until_at_rest(driver.joints, "an arm at rest")
    np.testing.assert_allclose(driver.position() - before, [0.0, 0.0, 0.06], atol=1e-3)
    assert {message.name for _, message in driver.groups} == {"arm"}
    np.testing.assert_allclose(driver.groups[-1][1].cmd, driver.joints(), atol=1e-3)
    assert np.abs(driver.joints() - turned).max() > 0.05 and statuses[-1][1].refused == 0


def test_an_effort_ends_at_the_limits_of_the_fingers_and_when_arm_node_is_deactivated(interbotix, start, ros):
    driver = interbotix()
    driver.home()
    driver.arm_node(start, gripper__open_position=100.0, gripper__closed_position=-100.0)
    low, high = driver.description.finger_range
    for goal, (opening, effort) in enumerate(((0.0, -100.0), (1.0, 100.0)), start=1):
        send(ros, goal, gripper=opening)
        ros.wait_until(lambda: efforts(driver)[-2:] == [effort, 0.0], "an effort that is taken back")
        driver.until_at_rest(driver.finger, "fingers at rest")
        # Interbotix's simulated motor has no end of its way: it goes on until the effort is taken back.
        assert driver.finger() < low + 0.001 if opening == 0.0 else driver.finger() > high - 0.001
    assert ros.set_parameter("arm_node", "gripper.closed_position", -4.0).successful
    send(ros, 3, gripper=0.0)
    ros.wait_until(lambda: efforts(driver)[-1] == -4.0, "an effort")
    assert driver.finger() > low + 0.001, "the fingers are on their way for seconds"
    assert ros.change_state("arm_node", "deactivate")
    ros.wait_until(lambda: efforts(driver)[-1] == 0.0, "no effort")
    driver.until_at_rest(driver.finger, "fingers at rest")
    assert driver.finger() > low + 0.001


def test_in_linear_position_the_gripper_gets_the_distance_of_its_fingers(interbotix, start, ros):
    driver = interbotix(modes(gripper="linear_position"))
    driver.home()
    # What a policy takes for the position of one finger is half of it.
    statuses = driver.arm_node(start, warns=True, gripper__finger="", gripper__open_position=0.07, gripper__closed_position=0.015)
    ros.wait_until(lambda: "gripper.closed_position is 0.015" in statuses[-1][1].gripper_message, "a sentence")
    assert "0.030 .. 0.074 m" in statuses[-1][1].gripper_message
    send(ros, 1, gripper=0.0)
    assert not driver.singles, "Interbotix's driver computes no angle for it"
    assert ros.set_parameter("arm_node", "gripper.closed_position", 0.032).successful
    for goal, (opening, finger) in enumerate(((0.0, 0.016), (1.0, 0.035)), start=2):
        send(ros, goal, gripper=opening)
        ros.wait_until(lambda: abs(driver.finger() - finger) < 1e-4, "the fingers")
    assert ros.change_state("arm_node", "deactivate")
    time.sleep(0.3)
    assert efforts(driver) == pytest.approx([0.0, 0.032, 0.07]), "0 would be a place to go to"


def test_nothing_is_sent_that_a_wrong_mode_would_take_for_something_else(interbotix, start, ros):
    driver = interbotix(modes(arm="velocity", gripper="linear_position"))
    statuses = driver.arm_node(start, warns=True)
    before = driver.joints()
    send(ros, 1, steps=6, way=0.01)
    status = ros.wait_until(lambda: next((m for _, m in statuses if m.code == Code.ROBOT_FAULT), None), "a fault")
    assert "the group 'arm' of Interbotix's driver is in the mode 'velocity', which takes no positions" in status.message
    ros.wait_until(
        lambda: "'gripper' of Interbotix's driver is in the mode 'linear_position'" in statuses[-1][1].gripper_message,
        "a sentence about the gripper",
    )
    assert not driver.groups and not driver.singles and driver.process.process.poll() is None
    np.testing.assert_array_equal(driver.joints(), before)
