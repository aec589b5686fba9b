# SPDX-License-Identifier: Apache-2.0
"""Towards a joint limit or a singular posture the arm slows down, then holds, with the code that says which, and the goal
ends there; from beyond a limit it may come back. Without a limit near by, nothing is slower than without kinematics.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

from vla_sd_ros.control.codes import Code
from vla_sd_ros.control.controller import ArmController, Command, Config
from vla_sd_ros.control.reach import JointLimits
from vla_sd_ros.kinematics.pose import Pose

sys.path.insert(0, str(Path(__file__).parents[1] / "kinematics"))
from arms import PANDA, WX250S  # noqa: E402

TICK = 0.01
WIDE = {"base_frame": "base", "workspace_low": np.full(3, -2.0), "workspace_high": np.full(3, 2.0), "blend_in": 0.0}


class Rig:
    """An arm that is at once where it is sent, and what was sent: poses and joints."""

    def __init__(self, chain, joints, known=True, limits=JointLimits()):
        self.kinematics, self.now, self.steps = chain.kinematics(), 10.0, 0
        self.controller = ArmController(Config(**WIDE, joints=limits), self.now)
        self.controller.kinematics = self.kinematics if known else None
        self.poses, self.joints = [Pose(*self.kinematics.forward(np.array(joints)))], [np.array(joints)]
        self.controller.measure(self.poses[0], self.now, self.joints[0])

    def move(self, steps, goal=1, rotation=(0.0, 0.0, 0.0)):
        """Commands at 5 Hz, translations (n, 3) [m]; ends when the arm holds."""
        for step in steps:
            self.steps += 1
            command = Command(bytes([goal]), self.steps, "base", False, np.array(step), np.array(rotation), 1.0, 0.2)
            self.controller.command(command, self.now)
            for _ in range(20):
                self.now += TICK
                pose = self.controller.tick(self.now)
                self.poses.append(pose)
                self.joints.append(self.joints[0] if self.controller.joints is None else self.controller.joints)
                self.controller.measure(pose, self.now, self.joints[-1])
            if self.status.code != Code.OK:
                break

    @property
    def status(self):
        return self.controller.status(self.now)

    @property
    def speeds(self):
        return np.linalg.norm(np.diff([pose.position for pose in self.poses], axis=0), axis=1) / TICK

    @property
    def singular(self):
        return np.array([np.linalg.svd(self.kinematics.jacobian(q), compute_uv=False)[-1] for q in self.joints])


@pytest.mark.parametrize("chain, step", [(PANDA, (0.03, 0.0, 0.0)), (WX250S, (0.02, 0.0, 0.0))])
def test_a_stretching_arm_slows_down_and_holds_before_it_is_singular(chain, step):
    rig = Rig(chain, chain.home)
    rig.move([step] * 40)
    assert rig.status.code == Code.SINGULARITY and "singular posture" in rig.status.message
    assert rig.controller.at_rest
    assert rig.singular.min() >= 0.02 and rig.singular[-1] < 0.03
    fastest, slow = rig.speeds.max(), rig.speeds[rig.singular[1:] < 0.024]
    assert slow.max() < 0.5 * fastest
    refused = rig.status.refused
    rig.move([step], goal=1)
    assert rig.status.refused == refused + 1, "the goal went on"
    rig.move([-np.array(step)] * 10, goal=2)
    assert rig.status.code == Code.OK and rig.singular[-1] > 0.06, "the way back was closed"


def test_a_joint_slows_down_and_holds_at_its_margin():
    rig = Rig(PANDA, PANDA.home)
    rig.move([(0.0, 0.0, 0.0)] * 60, rotation=(0.0, 0.0, -0.15))  # turns the last joint
    assert rig.status.code == Code.JOINT_LIMIT and "'panda_joint7' within 0.05 rad of its limit, 2.90" in rig.status.message
    left = PANDA.joints[6].upper - np.array(rig.joints)[:, 6]
    assert 0.05 <= left[-1] < 0.07 and rig.controller.at_rest
    rates = np.abs(np.diff(left)) / TICK
    assert rates[left[1:] < 0.08].max() < 0.8 * rates.max()


def test_an_arm_beyond_its_margin_may_come_back_but_go_no_farther():
    start = [0.0, -0.2, 0.0, -2.4, 0.0, 2.2, 2.88]
    out, back = Rig(PANDA, start), Rig(PANDA, start)
    out.move([(0.0, 0.0, 0.0)] * 5, rotation=(0.0, 0.0, -0.1))
    assert out.status.code == Code.JOINT_LIMIT and np.array(out.joints)[:, 6].max() <= 2.88 + 0.0021
    back.move([(0.0, 0.0, 0.0)] * 10, rotation=(0.0, 0.0, 0.1))
    assert back.status.code == Code.OK and back.joints[-1][6] < 2.2


def test_a_joint_that_would_be_too_fast_slows_the_arm_down_and_no_more():
    rig = Rig(PANDA, PANDA.home, limits=JointLimits(velocity_share=0.1))
    rig.move([(0.02, 0.0, 0.0)] * 10)
    assert rig.status.code == Code.OK and rig.poses[-1].position[0] > rig.poses[0].position[0] + 0.05
    used = np.abs(np.diff(rig.joints, axis=0)) / TICK / rig.kinematics.velocity_limits
    assert 0.05 < used.max() <= 0.1


@pytest.mark.parametrize("chain", [PANDA, WX250S])
def test_far_from_all_limits_nothing_is_slower(chain):
    known, unknown = Rig(chain, chain.home), Rig(chain, chain.home, known=False)
    steps = [(0.0, 0.02, 0.0)] * 3 + [(0.01, -0.01, 0.01)] * 4
    for rig in (known, unknown):
        rig.move(steps, rotation=(0.02, 0.0, -0.02))
    np.testing.assert_allclose([pose.position for pose in known.poses], [pose.position for pose in unknown.poses], atol=1e-9)


def test_the_elbow_of_a_redundant_arm_is_followed():
    rig = Rig(PANDA, PANDA.home)
    rig.move([(0.0, 0.0, 0.01)])
    jacobian = rig.kinematics.jacobian(rig.joints[-1])
    aside = np.linalg.svd(jacobian)[2][-1]
    elbow = rig.kinematics.inverse(rig.poses[-1].position, rig.poses[-1].rotation, rig.joints[-1] + 0.4 * aside)
    before = np.linalg.norm(elbow - rig.joints[-1])
    for step in range(15):
        rig.controller.command(
            Command(b"\x01", 1 + step, "base", False, np.array([0.0, 0.0, 0.005 * (-1) ** step]), np.zeros(3), 1.0, 0.2), rig.now
        )
        for _ in range(20):
            rig.now += TICK
            pose = rig.controller.tick(rig.now)
            rig.controller.measure(pose, rig.now, elbow)
    assert np.linalg.norm(elbow - rig.controller.joints) < before - 0.15
    apart = pose.displacement_to(Pose(*rig.kinematics.forward(rig.controller.joints)))
    assert np.abs(apart).max() < 1e-4
