# SPDX-License-Identifier: Apache-2.0
"""arm_node turns commands at 5 Hz into a smooth stream of target poses at its rate, and sends nothing before them."""

import time

import numpy as np
import pinocchio as pin
from panda import command
from vla_sd_msgs.msg import EndEffectorCommand


def positions(seen) -> np.ndarray:
    return np.array([[m.pose.position.x, m.pose.position.y, m.pose.position.z] for _, m in seen])


def rotation(message) -> np.ndarray:
    o = message.pose.orientation
    return pin.Quaternion(o.w, o.x, o.y, o.z).matrix()


def test_commands_at_5_hz_become_a_smooth_stream_at_100_hz(arm_node, ros):
    time.sleep(0.5)
    assert not arm_node.targets and not arm_node.openings, "the arm was commanded before the first command"
    for step in range(5):
        ros.publish(EndEffectorCommand, "command", command(step=step, translation=(0.02, 0.01, -0.01)))
        time.sleep(0.2)
    time.sleep(0.2)
    seen = list(arm_node.targets)
    start, path = positions(arm_node.measured)[0], positions(seen)
    np.testing.assert_allclose(path[-1], start + 5 * np.array([0.02, 0.01, -0.01]), atol=1e-4)
    times = np.array([t for t, _ in seen])
    stamps = np.array([m.header.stamp.sec + 1e-9 * m.header.stamp.nanosec for _, m in seen])
    rate = (len(times) - 1) / (times[-1] - times[0])
    assert 90.0 < rate < 110.0
    assert seen[0][1].header.frame_id == "panda_link0"
    assert np.linalg.norm(path[0] - start) < 1e-3, "the first target is not where the arm is"
    # Between the first and the last command the motion goes on: no stop at the end of a period.
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    moving = (stamps[1:] > stamps[0] + 0.25) & (stamps[1:] < stamps[0] + 0.95)
    assert steps[moving].min() > 0.0
    assert steps.max() < 0.6 * 0.04, "a leap"
    assert [m.data for _, m in arm_node.openings] == [1.0]


def test_rotation_is_about_the_end_effector_in_base_axes(arm_node, ros):
    ros.publish(EndEffectorCommand, "command", command(rotation=(0.0, 0.0, 0.2), gripper=0.0))
    time.sleep(0.6)
    before, after = rotation(arm_node.measured[0][1]), rotation(arm_node.targets[-1][1])
    expected = np.array([[np.cos(0.2), -np.sin(0.2), 0.0], [np.sin(0.2), np.cos(0.2), 0.0], [0.0, 0.0, 1.0]])
    np.testing.assert_allclose(after @ before.T, expected, atol=1e-4)
    np.testing.assert_allclose(positions(arm_node.targets)[-1], positions(arm_node.measured)[0], atol=1e-6)
    assert [m.data for _, m in arm_node.openings] == [0.0]
