# SPDX-License-Identifier: Apache-2.0
"""An encoder that slips, and a second publisher of joint_states, move a real arm nowhere but along the commanded way, whatever they
make of the measured pose. Nor does a later goal, until somebody says that the arm stands as they say: only joint states that go
wrong slowly, as those of an arm that is pushed, are believed, and by as much as they are wrong the next goal moves the arm, once.
An arm of joints: it goes where arm_node's joints are, and its joint states lie.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from plants import TICK
from test_motion_stays_within_limits import steady

from vla_sd_ros.control.codes import Code
from vla_sd_ros.control.controller import ArmController, Config
from vla_sd_ros.control.joint_states import JUMP, JointStateWatch, admit
from vla_sd_ros.kinematics.pose import Pose

sys.path.insert(0, str(Path(__file__).parents[1] / "kinematics"))
from arms import PANDA  # noqa: E402

KINEMATICS = PANDA.kinematics()
LATE = 3  # ticks, from the arm to the controller
SHARE = 0.2  # of the way to its target that a joint goes in a tick, as fast as it can
CONFIG = Config(workspace_low=np.array([0.0, -1.0, -0.5]), workspace_high=np.array([1.0, 1.0, 1.2]))
ZERO, AHEAD = (0.0, 0.0, 0.0), (0.0, 0.02, 0.0)
SHOULDER, ALL = np.eye(7)[1], np.ones(7)
OTHER = np.array([0.6, 0.3, 0.0, -0.3, 0.0, 0.0, 0.0])  # where another arm stands, from this one
STAYS = 0.01  # m


class Arm:
    """A controller and the arm before it; `positions`: the tip's true ones. As arm_state.py does, joint states are watched."""

    def __init__(self, lie):
        """lie(joints (n,), t, i): what message i says at a time [s]."""
        self.now, self.lie, self.messages = 100.0, lie, 0
        self.controller = ArmController(CONFIG, self.now)
        self.controller.kinematics = KINEMATICS
        self.watch = JointStateWatch(
            KINEMATICS.joint_names, *KINEMATICS.position_limits, KINEMATICS.velocity_limits, lambda q: KINEMATICS.forward(q)[0]
        )
        self.joints = [np.array(PANDA.home)] * (LATE + 1)
        self.target = self.joints[-1]
        self.positions = []
        self.codes = set()
        self.ticks(30)

    def ticks(self, count):
        for _ in range(count):
            self.now += TICK
            self.controller.tick(self.now)
            self.target = self.target if self.controller.joints is None else self.controller.joints
            reach = TICK * KINEMATICS.velocity_limits
            self.joints.append(self.joints[-1] + np.clip(SHARE * (self.target - self.joints[-1]), -reach, reach))
            self.positions.append(KINEMATICS.forward(self.joints[-1])[0])
            self.hear(self.lie(self.joints[-1 - LATE], self.now - 100.0, self.messages))
            self.messages += 1
            self.codes.add(self.controller.status(self.now).code)

    def hear(self, q):
        if admit(self.watch, self.controller, q, self.now, self.now):
            self.controller.measure(Pose(*KINEMATICS.forward(q)), self.now, q)


def slips(by, seconds=0.0):
    """From 0.8 s on, at once or within some seconds."""
    return lambda joints, t, i: joints + by * np.clip((t - 0.8) / seconds if seconds else t > 0.8, 0.0, 1.0)


def another(by, every, since=0.8, alone=np.inf):
    """Each so many messages one of a second publisher, whose arm stands elsewhere; from a time [s] on it is alone."""
    return lambda joints, t, i: joints + by * ((t > since and i % every == 0) or t > alone)


def bound(by):
    """How far [m] joint states that are off by so much [rad] are from the tip: that far a goal may begin away from it, once."""
    home = np.array(PANDA.home)
    return float(np.linalg.norm(KINEMATICS.forward(home + by)[0] - KINEMATICS.forward(home)[0])) + 0.005


@pytest.mark.parametrize("delta", [ZERO, AHEAD], ids=["zero", "ahead"])
@pytest.mark.parametrize(
    "lie, once",
    [
        (slips(0.2 * SHOULDER), STAYS),
        (slips(-0.2 * SHOULDER), STAYS),
        (slips(0.2 * SHOULDER, 2.0), bound(0.2 * SHOULDER)),  # 10 cm
        (slips(-0.2 * SHOULDER, 2.0), bound(-0.2 * SHOULDER)),
        (slips(0.09 * ALL), STAYS),
        (slips(OTHER), STAYS),
        (another(0.09 * ALL, 2), 0.001),
        (another(0.09 * ALL, 7), 0.001),
        (another(0.09 * ALL, 2, since=0.0), 0.001),
        (another(0.09 * ALL, 2, alone=4.0), STAYS),
        (another(OTHER, 2, alone=4.0), STAYS),
        (another(OTHER, 3, alone=4.0), STAYS),
    ],
    ids=["slip", "slip back", "slow slip", "slow slip back", "slip of all", "another arm", "second", "seldom second"]
    + ["second from the start", "second stays", "another arm stays", "seldom other arm stays"],
)
def test_the_arm_stays_on_the_commanded_way_and_later_goals_take_it_off_once_at_most(lie, once, delta):
    arm = Arm(lie)
    goal(arm, 1, delta)
    way = np.array(arm.positions) - arm.positions[0]
    assert np.abs(way[:, [0, 2]]).max() < 0.001
    assert way[:, 1].min() > -0.001 and way[:, 1].max() <= 15 * delta[1] + 0.001
    assert arm.codes & {Code.ARM_RUNS_AWAY, Code.JOINT_STATES_INVALID}, arm.codes
    for number in range(2, 6):
        goal(arm, number, ZERO)
    assert np.linalg.norm(np.array(arm.positions[len(way) :]) - arm.positions[len(way) - 1], axis=1).max() < once
    assert arm.controller.status(arm.now).code in (Code.ARM_RUNS_AWAY, Code.JOINT_STATES_INVALID)


def goal(arm, number, delta, turn=0.0):
    for index in range(15):
        command = replace(steady(index, translation=delta, goal=number), rotation=np.array([0.0, 0.0, turn]))
        arm.controller.command(command, arm.now)
        arm.ticks(20)


@pytest.mark.parametrize("turn", [0.0, 0.25], ids=["at rest", "on its way"])
def test_joint_states_that_go_back_are_believed_at_once(turn):
    """Those of an arm that was on its way when they jumped go on where it has come to rest."""
    arm = Arm(lambda joints, t, i: joints + OTHER * (0.8 < t < 2.0))
    goal(arm, 1, ZERO, turn)
    assert not arm.watch.lost
    goal(arm, 2, AHEAD)
    assert arm.controller.status(arm.now).code == Code.OK
    assert arm.positions[-1][1] - arm.positions[0][1] > 0.2


@pytest.mark.parametrize("by", [0.2 * SHOULDER, 0.09 * ALL, OTHER])
def test_an_arm_that_stands_as_they_say_is_usable_again_when_somebody_says_so(by):
    arm = Arm(slips(by))
    goal(arm, 1, ZERO)
    status = arm.controller.status(arm.now)
    assert status.code == Code.JOINT_STATES_INVALID and "until ~/recover is called" in status.message
    arm.joints = [arm.joints[-1] + by] * (LATE + 1)  # it really does
    arm.target = arm.joints[-1]
    arm.lie = lambda joints, t, i: joints
    assert arm.watch.vouch(arm.now)
    arm.ticks(10)
    before = KINEMATICS.forward(arm.joints[-1])[0]
    goal(arm, 2, ZERO)
    assert arm.controller.status(arm.now).code == Code.OK
    assert np.linalg.norm(arm.positions[-1] - before) < 0.001


def test_whoever_says_so_while_two_publish_by_turns_says_nothing_of_the_one_that_stays():
    arm = Arm(another(OTHER, 2, alone=4.0))
    goal(arm, 1, ZERO)
    assert not arm.watch.vouch(arm.now)
    goal(arm, 2, ZERO)
    assert arm.watch.lost and np.linalg.norm(arm.positions[-1] - arm.positions[0]) < STAYS


@pytest.mark.parametrize("by, usable", [(0.05 * SHOULDER, True), (0.2 * SHOULDER, False), (OTHER, False)])
def test_an_arm_that_was_moved_while_it_told_nothing(by, usable):
    """By a little, as one that sags without power: then it is believed; else only when somebody says so."""
    arm = Arm(lambda joints, t, i: joints)
    goal(arm, 1, ZERO)
    arm.hear, hear = lambda q: None, arm.hear
    arm.ticks(300)
    arm.hear, arm.lie = hear, lambda joints, t, i: joints + by
    arm.ticks(50)
    assert arm.watch.lost != usable


def test_an_arm_that_went_where_it_was_sent_while_it_told_nothing_is_believed():
    arm = Arm(lambda joints, t, i: joints)
    turn = replace(steady(0, translation=ZERO), rotation=np.array([0.0, 0.0, 0.4]))
    arm.controller.command(turn, arm.now)
    arm.ticks(2)
    arm.hear, hear = lambda q: None, arm.hear
    before = arm.joints[-1 - LATE]
    arm.ticks(300)
    assert np.abs(arm.joints[-1] - before).max() > JUMP
    arm.hear = hear
    arm.ticks(1)
    assert not arm.watch.lost and arm.controller.status(arm.now).code == Code.NO_COMMAND
