# SPDX-License-Identifier: Apache-2.0
"""A controller that moves another frame than the commanded one, an arm that sags, an encoder that has slipped, joint states
of two arms: the arm may go as far as the error is large, once. No target follows it, and the goal ends with a code.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plants import HOME, TICK, Plant, Run, offset
from test_motion_stays_within_limits import steady

from vla_sd_ros.control.clipping import clip_step
from vla_sd_ros.control.codes import Code
from vla_sd_ros.control.controller import ArmController, Config
from vla_sd_ros.kinematics.pose import Pose

CONFIG = Config(workspace_low=np.array([0.0, -1.0, -0.5]), workspace_high=np.array([1.0, 1.0, 1.2]))
ZERO = [steady(i, translation=(0.0, 0.0, 0.0)) for i in range(10)]
LINK8 = offset((0.0, 0.0, -0.1034), (0.0, 0.0, np.pi / 4))  # of fr3_link8, seen from fr3_hand_tcp
LINK7 = offset((0.0, 0.0, -0.2104), (0.0, 0.0, np.pi / 4))
AHEAD = [steady(i, translation=(0.02, 0.0, 0.0)) for i in range(15)]
# What MoveIt Servo does: no faster than its limits, and it halts on a command that is too old, with which arm_node ends.
SERVO = {"fastest": (0.25, 1.0), "halts": 0.03}


def run(plant, commands, then=300, measured=lambda pose: pose, config=CONFIG):
    run = Run(ArmController(config, 100.0), plant, measured)
    run.commands(commands)
    run.ticks(then)
    return run


def assert_over(run, code):
    status = run.controller.status(run.now)
    assert (status.moving, status.code) == (False, code), status
    resting = [pose.position for pose in run.poses[-50:]]
    np.testing.assert_allclose(resting, resting[:1] * 50, atol=1e-4)


def test_zero_commands_to_a_servo_of_another_tip_are_a_fault_and_the_tip_stays():
    servo = run(Plant(LINK8, **SERVO), ZERO)
    assert_over(servo, Code.ARM_RUNS_AWAY)
    assert servo.moved < 0.03
    assert servo.sent[-1] is None and "tip_link" in servo.controller.status(servo.now).message


directions = (
    st.tuples(*[st.floats(-1.0, 1.0)] * 3)
    .map(np.array)
    .filter(lambda v: np.linalg.norm(v) > 0.1)
    .map(lambda v: v / np.linalg.norm(v))
)


@settings(max_examples=60)
@given(directions, st.floats(0.01, 0.20), directions, st.floats(5.0, 90.0), st.floats(0.03, 0.3))
def test_any_offset_of_the_tip_is_found_before_the_tip_has_moved_far(towards, distance, axis, degrees, lag):
    servo = run(Plant(offset(distance * towards, np.radians(degrees) * axis), lag=lag, **SERVO), ZERO, then=100)
    assert_over(servo, Code.ARM_RUNS_AWAY)
    assert servo.moved < 0.03


@settings(max_examples=30)
@given(directions, st.floats(0.01, 0.20), directions, st.floats(5.0, 90.0), st.booleans())
def test_a_controller_that_holds_its_last_target_goes_no_farther_than_the_offset(towards, distance, axis, degrees, again):
    """Nothing can stop it from going there; but no target follows, and a new goal does not take it there once more."""
    frame = offset(distance * towards, np.radians(degrees) * axis)
    follower = run(Plant(frame), ZERO, then=100)
    if again:
        follower.commands([steady(i, translation=(0.0, 0.0, 0.0), goal=2) for i in range(5)])
    assert_over(follower, Code.ARM_RUNS_AWAY)
    assert follower.moved < distance + 0.001


@pytest.mark.parametrize("frame, farthest", [(LINK8, 0.105), (LINK7, 0.212)])
@pytest.mark.parametrize("commands", [ZERO, AHEAD])
def test_the_wrong_link_of_a_follower_ends_the_goal(frame, farthest, commands):
    follower = run(Plant(frame), commands)
    assert_over(follower, Code.ARM_RUNS_AWAY)
    assert follower.moved < farthest + (0.02 if commands is AHEAD else 0.0)


def test_an_arm_that_sags_under_its_load_sinks_once():
    sagging = run(Plant(sag=np.array([0.0, 0.0, -0.07])), ZERO)
    assert_over(sagging, Code.ARM_RUNS_AWAY)
    assert sagging.moved < 0.075


def test_a_load_that_comes_in_motion_lets_the_arm_sink_once():
    plant = Plant()
    loaded = Run(ArmController(CONFIG, 100.0), plant)
    loaded.commands(AHEAD[:5])
    plant._sag = np.array([0.0, 0.0, -0.07])
    loaded.commands(AHEAD[5:])
    loaded.ticks(100)
    assert_over(loaded, Code.ARM_RUNS_AWAY)
    assert HOME.position[2] - min(pose.position[2] for pose in loaded.poses) < 0.075


@pytest.mark.parametrize("slip", [0.05, 0.09, 0.11])
@pytest.mark.parametrize("commands", [ZERO, AHEAD])
def test_an_encoder_that_slips_moves_nothing_of_itself(slip, commands):
    """The measured pose is off from one moment on, though the arm is where it was sent."""
    slipped = Run(ArmController(CONFIG, 100.0), Plant())
    slipped.commands(commands[:5])
    slipped.believed = lambda pose: Pose(pose.position + np.array([0.0, slip, 0.0]), pose.rotation)
    slipped.commands(commands[5:])
    slipped.ticks(100)
    assert_over(slipped, Code.ARM_RUNS_AWAY)
    assert max(abs(pose.position[1]) for pose in slipped.poses) < 0.001


def test_joint_states_of_two_arms_by_turns_move_nothing():
    turns = iter(range(10**6))
    both = run(Plant(), ZERO, measured=lambda pose: Pose(pose.position + (0.04 if next(turns) % 2 else 0.0), pose.rotation))
    assert_over(both, Code.ARM_RUNS_AWAY)
    assert both.moved < 0.001 + 0.07  # the goal begins at the pose that was measured last, which may be the other arm's


def test_an_arm_that_drifts_off_slowly_is_off_its_targets():
    """Slower than what is seen as running away, and not standing still."""
    drift = np.zeros(3)
    drifting = Run(ArmController(CONFIG, 100.0), Plant(), lambda pose: Pose(pose.position + drift, pose.rotation))
    for command in [steady(i, translation=(0.002, 0.0, 0.0)) for i in range(60)]:
        drifting.controller.command(command, drifting.now)
        for _ in range(20):
            drift = np.minimum(drift + [0.0, 0.00007, 0.0], 0.09)
            drifting.ticks(1)
    assert_over(drifting, Code.LEAD_OFFSET)


@pytest.mark.parametrize("turned", [np.pi, np.pi / 2, -np.pi / 2])
def test_a_base_that_is_turned_is_noticed_by_the_direction_of_the_motion(turned):
    """The controller takes the targets for ones in a base of another direction, about where the arm stands."""

    class Turned(Plant):
        def step(self, target):
            if target is not None:
                way = HOME.displacement_to(target)
                way[:3] = offset((0, 0, 0), (0, 0, turned)).rotation @ way[:3]
                target = HOME.moved(way)
            return super().step(target)

    wrong = run(Turned(), AHEAD)
    assert_over(wrong, Code.ARM_RUNS_AWAY)
    assert wrong.moved < 0.045


commands = st.tuples(directions, st.sampled_from([0.0, 0.0, 0.01, 0.04, 0.05]), directions, st.sampled_from([0.0, 0.05, 0.2]))


@settings(max_examples=60)
@given(st.lists(commands, min_size=1, max_size=12), st.floats(0.02, 0.15), st.floats(0.0, 0.05))
def test_a_healthy_arm_is_never_accused_whatever_it_is_told(ways, lag, late):
    healthy = Run(ArmController(CONFIG, 100.0), Plant(lag=lag), late=late)
    for index, (towards, size, axis, angle) in enumerate(ways):
        command = steady(index, translation=tuple(size * towards))
        object.__setattr__(command, "rotation", angle * axis)
        healthy.commands([command])
        assert healthy.controller.status(healthy.now).code == Code.OK, healthy.controller.status(healthy.now)


def test_a_goal_that_takes_over_in_full_motion_is_no_fault():
    healthy = Run(ArmController(CONFIG, 100.0), Plant(lag=0.12), late=0.04)
    for goal in range(1, 6):
        sign = -1.0 if goal % 2 else 1.0
        healthy.commands([steady(i, translation=(0.0, sign * 0.05, 0.0), goal=goal) for i in range(5)])
        assert healthy.controller.status(healthy.now).code == Code.OK


def test_after_a_wrong_frame_no_goal_begins_until_somebody_has_looked():
    follower = run(Plant(LINK8), ZERO)
    before = follower.poses[-1].position
    follower.commands([steady(i, goal=2) for i in range(5)])
    np.testing.assert_allclose(follower.poses[-1].position, before, atol=1e-3)
    assert follower.controller.status(follower.now).code == Code.ARM_RUNS_AWAY
    follower.plant._frame = offset((0, 0, 0), (0, 0, 0))
    follower.plant._target = None
    follower.controller.recover()
    follower.commands([steady(i, goal=3) for i in range(5)])
    assert follower.controller.status(follower.now).code == Code.OK
    assert np.linalg.norm(follower.poses[-1].position - before) > 0.05


@pytest.mark.parametrize("commands", [ZERO[:1], AHEAD[:1]])
def test_a_goal_that_ends_before_the_arm_runs_away_is_watched_until_the_target_has_settled(commands):
    """A hold is sent too, so it may drive the arm elsewhere just as well."""
    servo = Run(ArmController(CONFIG, 100.0), Plant(LINK8, **SERVO))
    servo.commands(commands, ticks=1)
    servo.controller.hold("the goal is over")
    servo.ticks(300)
    assert servo.sent[-1] is None and servo.moved < 0.03
    assert servo.controller.status(servo.now).code == Code.ARM_RUNS_AWAY and servo.controller.ran_away
    servo.commands([steady(i, translation=(0.0, 0.0, 0.0), goal=2) for i in range(5)])
    assert servo.sent[-1] is None and servo.moved < 0.03
    servo.controller.recover()
    assert not servo.controller.blocked


class TwistedServo:
    """MoveIt Servo with servo_twist, whose planning frame is turned by `turned` [rad] about z from the base: it takes the twist of
    arms/servo.py (the target's velocity, and `gain` [1/s] times the way to it) along its own axes, and stops in silence."""

    def __init__(self, turned, gain, lag):
        self.pose, self._axes, self._gain, self._lag = HOME, offset((0, 0, 0), (0, 0, turned)).rotation, gain, lag
        self._last, self._twist = None, np.zeros(6)

    def step(self, target):
        wanted = np.zeros(6)
        if target is not None and self._last is not None:
            wanted = self._last.displacement_to(target) / TICK + self._gain * self.pose.displacement_to(target)
            wanted = clip_step(wanted, CONFIG.limits.linear_velocity, CONFIG.limits.angular_velocity)
            wanted = np.concatenate([self._axes @ wanted[:3], self._axes @ wanted[3:]])
        self._last = target
        self._twist = self._twist + (1.0 - np.exp(-TICK / self._lag)) * (wanted - self._twist)
        self.pose = self.pose.moved(TICK * self._twist)
        return self.pose


@pytest.mark.parametrize("lag, farthest", [(0.001, 0.03), (0.05, 0.045)])
@pytest.mark.parametrize("turned", [np.pi, np.pi / 2, -np.pi / 2])
@pytest.mark.parametrize("gain", [2.0, 5.0, 10.0, 20.0])
def test_a_twist_in_a_turned_frame_ends_the_goal_near_where_it_began(turned, gain, lag, farthest):
    servo = run(TwistedServo(turned, gain, lag), AHEAD, then=100)
    assert_over(servo, Code.ARM_RUNS_AWAY)
    assert servo.moved < farthest
