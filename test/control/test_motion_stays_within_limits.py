# SPDX-License-Identifier: Apache-2.0
"""Whatever commands, gaps, non-finite values and parameter changes come: what goes to the robot is inside the workspace
and the limits of velocity and acceleration, continuous, and at rest within the documented time after the last command.
"""

from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pinocchio import exp3
from strategies import vectors

from vla_sd_ros.control.controller import ArmController, Command, Config
from vla_sd_ros.control.tracker import Limits
from vla_sd_ros.kinematics.pose import Pose

TICK = 0.01
LOW, HIGH = np.array([-0.1, -0.1, -0.1]), np.array([0.1, 0.1, 0.1])  # small: the walls are hit often
CONFIG = Config(workspace_low=LOW, workspace_high=HIGH)
SOMETIMES_BROKEN = st.sampled_from([0.0] * 20 + [np.nan, np.inf, -np.inf])

commands = st.builds(
    lambda goal, frame, hold, translation, rotation, gripper, period, broken: Command(
        bytes([goal]), 0, frame, hold, translation + broken, rotation, gripper, period
    ),
    st.integers(1, 2),
    st.sampled_from(["panda_link0"] * 20 + ["world"]),
    st.sampled_from([False] * 10 + [True]),
    vectors(0.15),
    vectors(0.6),
    st.floats(-1.0, 2.0),
    st.sampled_from([0.05, 0.2, 0.2, 0.5]),
    SOMETIMES_BROKEN,
)
# A command, and the number of ticks until the next: bursts, the ordinary 0.2 s, and gaps beyond command_timeout.
scripts = st.lists(st.tuples(commands, st.sampled_from([0, 1, 7, 18, 20, 20, 20, 23, 80])), min_size=1, max_size=10)


class Rig:
    """A controller whose arm is wherever it is sent, and the record of what it sends."""

    def __init__(self, config=CONFIG, start=np.zeros(3)):
        self.now = 100.0
        self.controller = ArmController(config, self.now)
        self.measured = Pose(start, np.eye(3))
        self.controller.measure(self.measured, self.now)
        self.sent: list[Pose] = []
        self._steps = 0

    def tick(self, dt=TICK, measure=True):
        self.now += dt
        pose = self.controller.tick(self.now)
        if pose is not None:
            self.sent.append(pose)
            self.measured = pose
        if measure:
            self.controller.measure(self.measured, self.now)

    def run(self, script):
        """Commands, each with the ticks after it; their steps count up, as vla_node's do, where the script lets them stand."""
        for command, ticks in script:
            command = replace(command, step=max(command.step, self._steps))
            self._steps = command.step + 1
            self.controller.command(command, self.now)
            for _ in range(ticks):
                self.tick()

    def displacements(self) -> np.ndarray:
        """(n, 6) from each pose sent to the next."""
        return np.array([one.displacement_to(other) for one, other in zip(self.sent, self.sent[1:])]).reshape(-1, 6)


def assert_within(limits: Limits, displacements: np.ndarray) -> None:
    velocity = displacements / TICK
    acceleration = np.diff(velocity, axis=0) / TICK
    for part, kind in ((slice(0, 3), "linear"), (slice(3, 6), "angular")):
        speeds = np.linalg.norm(velocity[:, part], axis=1)
        assert speeds.max(initial=0.0) <= getattr(limits, f"{kind}_velocity") * (1 + 1e-6)
        # Rotations do not commute: over one tick, the rotation vector differs from the integral by a second order.
        slack = 1e-6 if kind == "linear" else 0.01
        rates = np.linalg.norm(acceleration[:, part], axis=1)
        assert rates.max(initial=0.0) <= getattr(limits, f"{kind}_acceleration") * (1 + slack)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scripts)
def test_every_output_is_in_the_box_and_within_velocity_and_acceleration(script):
    rig = Rig()
    rig.run(script)
    positions = np.array([pose.position for pose in rig.sent]).reshape(-1, 3)
    assert np.all(positions >= LOW - 1e-6) and np.all(positions <= HIGH + 1e-6)
    assert np.all(np.isfinite(positions))
    assert_within(CONFIG.limits, rig.displacements())


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scripts)
def test_the_arm_is_at_rest_within_the_documented_time_after_the_last_command(script):
    rig = Rig()
    rig.run(script)
    for _ in range(int(np.ceil(CONFIG.settling_time() / TICK)) + 1):
        rig.tick()
    before = len(rig.sent)
    for _ in range(20):
        rig.tick()
    np.testing.assert_allclose(rig.displacements()[before:], 0.0, atol=1e-9)
    assert rig.controller.at_rest


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scripts)
def test_a_hold_brings_the_arm_to_rest_within_the_stopping_time(script):
    rig = Rig()
    rig.run(script)
    rig.controller.hold("test")
    for _ in range(int(np.ceil(CONFIG.limits.stopping_time() / TICK)) + 1):
        rig.tick()
    assert rig.controller.at_rest


changes = st.builds(
    lambda low, high, speed, acceleration, jerk: replace(
        CONFIG,
        workspace_low=low,
        workspace_high=high,
        limits=Limits(speed, acceleration, jerk, 4 * speed, 4 * acceleration, 4 * jerk),
    ),
    st.sampled_from([LOW, LOW / 2]),
    st.sampled_from([HIGH, HIGH / 2]),
    st.floats(0.01, 0.6),
    st.floats(0.5, 5.0),
    st.floats(20.0, 300.0),
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(changes, scripts), min_size=2, max_size=4))
def test_limits_changed_during_the_motion_leave_it_continuous_and_in_the_largest_box(parts):
    rig = Rig()
    for config, script in parts:
        rig.controller.config = config
        rig.run(script)
    positions = np.array([pose.position for pose in rig.sent]).reshape(-1, 3)
    assert np.all(positions >= LOW - 1e-6) and np.all(positions <= HIGH + 1e-6)
    speeds = np.linalg.norm(rig.displacements()[:, :3], axis=1) / TICK
    assert speeds.max(initial=0.0) <= 0.6 * (1 + 1e-6)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scripts, vectors(0.3))
def test_an_arm_outside_the_box_goes_no_farther_out(script, start):
    rig = Rig(start=start)
    rig.run(script)
    outside = [np.maximum(LOW - pose.position, pose.position - HIGH).clip(0.0) for pose in rig.sent]
    at_start = np.maximum(LOW - start, start - HIGH).clip(0.0)
    assert np.all(np.array(outside).reshape(-1, 3) <= at_start + 1e-6)


def steady(step, goal=1, translation=(0.03, 0.0, 0.0)):
    return Command(bytes([goal]), step, "panda_link0", False, np.array(translation), np.zeros(3), 1.0, 0.2)


def test_a_stream_of_commands_does_not_stop_and_go():
    rig = Rig(replace(CONFIG, workspace_high=np.full(3, 1.0)))
    rig.run([(steady(step), 20) for step in range(10)])
    speeds = rig.displacements()[:, 0] / TICK
    np.testing.assert_allclose(speeds[40:190], 0.15, rtol=0.05)


def test_the_motion_ends_on_the_last_target_without_overshoot():
    rig = Rig()
    rig.run([(steady(0), 20), (steady(1), 80)])
    x = np.array([pose.position[0] for pose in rig.sent])
    assert x.max() <= 0.06 + 1e-9
    np.testing.assert_allclose(x[-1], 0.06, atol=1e-6)


def test_rotations_commanded_faster_than_the_limit_do_not_run_away():
    rig = Rig(replace(CONFIG, limits=replace(CONFIG.limits, angular_velocity=0.2)))
    turning = replace(steady(0), translation=np.zeros(3), rotation=np.array([0.0, 0.0, 0.25]))
    rig.run([(turning, 20)] * 30)
    angles = np.unwrap([np.arctan2(pose.rotation[1, 0], pose.rotation[0, 0]) for pose in rig.sent])
    assert np.all(np.diff(angles) >= -1e-9)


@given(vectors(3.0), vectors(0.5))
@settings(max_examples=20, deadline=None)
def test_a_goal_starts_from_the_measured_pose(rotation, translation):
    rig = Rig(replace(CONFIG, workspace_low=np.full(3, -2.0), workspace_high=np.full(3, 2.0)))
    rig.measured = Pose(translation, exp3(rotation))
    rig.controller.measure(rig.measured, rig.now)
    rig.run([(steady(0), 60)])
    np.testing.assert_allclose(rig.sent[-1].position, translation + [0.03, 0.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(rig.sent[-1].rotation, exp3(rotation), atol=1e-6)
