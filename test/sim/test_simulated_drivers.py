# SPDX-License-Identifier: Apache-2.0
"""The simulated WidowX and Franka move as their drivers do, and a goal through arm_node's arithmetic stays on its path."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from vla_sd_ros.control.controller import ArmController, Code, Command, Config
from vla_sd_ros.control.tracker import Limits
from vla_sd_ros.kinematics.pose import Pose
from vla_sd_ros.sim.arms import Description, PoseFollower, ProfiledMotors

MODES = yaml.safe_load((Path(__file__).parents[2] / "config" / "widowx_modes.yaml").read_text())
DT = 0.01


def test_a_goal_is_reached_in_the_time_of_the_profile_and_held():
    arm = Description("widowx", "wx250s")
    motors = ProfiledMotors(arm.home, arm.limits, 0.2, now=0.0)
    goal = arm.home + 0.1
    motors.command(goal, 0.0)
    motors.step(0.1)
    assert np.all(motors.position > arm.home) and np.all(motors.position < goal)
    motors.step(0.2)
    np.testing.assert_allclose(motors.position, goal)
    motors.step(10.0)
    np.testing.assert_allclose(motors.position, goal)
    assert not motors.velocity.any()


def test_no_joint_exceeds_its_speed_or_its_limits_however_far_the_goal():
    arm = Description("widowx", "wx250s")
    motors, seen = ProfiledMotors(arm.home, arm.limits, 0.2, now=0.0), []
    motors.command(np.full(6, 10.0), 0.0)
    for i in range(400):
        motors.step(i * DT)
        seen.append(motors.position)
    assert np.abs(np.diff(seen, axis=0)).max() <= np.pi * DT + 1e-9
    np.testing.assert_allclose(seen[-1], arm.limits[:, 1])
    with pytest.raises(ValueError, match="expected 6 finite positions"):
        motors.command(np.full(6, np.nan), 4.0)


def drive(profile):
    """A square of 4 x 4 cm at 5 Hz commands: distances [m] of the end effector from the path, and from its end."""
    arm, now = Description("widowx", "wx250s"), 0.0
    box = {"workspace_low": np.array([0.1, -0.2, -0.01]), "workspace_high": np.array([0.45, 0.25, 0.3])}
    config = Config(base_frame="base", **box, limits=Limits(0.4, 2.0, 100.0, 1.5, 8.0, 400.0))
    controller, motors = ArmController(config, now), ProfiledMotors(arm.home, arm.limits, profile, now)
    controller.kinematics = arm.kinematics
    side = np.array([[0.01, 0, 0]] * 4 + [[0, 0.01, 0]] * 4 + [[-0.01, 0, 0]] * 4 + [[0, -0.01, 0]] * 4)
    start = Pose(*arm.kinematics.forward(arm.home))
    path, measured = [start.position], []
    for tick in range(20 * 18):
        now = tick * DT
        motors.step(now)
        measured.append(Pose(*arm.kinematics.forward(motors.position)))
        controller.measure(measured[-1], now, motors.position)
        if tick % 20 == 0 and tick // 20 < len(side):
            path.append(path[-1] + side[tick // 20])
            controller.command(Command(b"goal", tick // 20, "base", False, side[tick // 20], np.zeros(3), 1.0, 0.2), now)
        controller.tick(now)
        assert controller.status(now).code in (Code.OK, Code.COMMAND_STALE), controller.status(now).message
        if tick % 5 == 0:  # interbotix.rate, 20 Hz
            motors.command(controller.joints, now)
    fine = np.concatenate([np.linspace(a, b, 20) for a, b in zip(path, path[1:])])
    distances = [np.linalg.norm(fine - pose.position, axis=1).min() for pose in measured]
    end = measured[-1].displacement_to(Pose(path[-1], start.rotation))
    return max(distances), np.linalg.norm(end[:3]), np.linalg.norm(end[3:])


def test_a_wx250s_follows_a_sequence_of_poses_at_5_hz_within_5_mm():
    off_path, at_end, turned = drive(MODES["groups"]["arm"]["profile_velocity"] / 1000.0)
    assert off_path < 0.005 and at_end < 0.001 and turned < 0.01


def test_with_the_drivers_own_profile_it_would_not():
    _, at_end, _ = drive(2.0)
    assert at_end > 0.005


def test_a_franka_holds_its_last_target_on_silence():
    arm = Description("franka", "fr3")
    follower = PoseFollower(arm, 0.0)
    start = Pose(*arm.kinematics.forward(arm.home))
    target = start.moved(np.array([0.05, 0.05, -0.05, 0.0, 0.0, 0.2]))
    follower.command(target)
    for i in range(200):
        follower.step(i * DT)
    apart = Pose(*arm.kinematics.forward(follower.position)).displacement_to(target)
    assert np.abs(apart).max() < 1e-4
    before = follower.position
    follower.step(300.0)
    np.testing.assert_allclose(follower.position, before, atol=1e-4)
