# SPDX-License-Identifier: Apache-2.0
"""Whatever the mathematics of the motion raises: the arm brakes on the way it knows, holds with a code, and the node lives."""

from dataclasses import replace

import numpy as np
import pytest
import ruckig
from test_motion_stays_within_limits import CONFIG, Rig, assert_within, steady

from vla_sd_ros.control import tracker
from vla_sd_ros.control.codes import Code
from vla_sd_ros.control.reach import JointLimits
from vla_sd_ros.control.tracker import Tracker
from vla_sd_ros.kinematics.pose import Pose

CALM = replace(CONFIG, blend_in=0.0, workspace_high=np.full(3, 1.0))


@pytest.mark.parametrize(
    "error",
    [
        ruckig.RuckigError("no\nbrakes"),
        RuntimeError("r"),
        ValueError("-101"),
        np.linalg.LinAlgError("singular"),
        ZeroDivisionError("z"),
        IndexError("i"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_in_motion_it_comes_to_rest_within_the_limits_and_the_goal_is_over(monkeypatch, error):
    rig = Rig(CALM)
    rig.run([(steady(i, translation=(0.05, 0.0, 0.0)), 20) for i in range(3)])

    def fails(*_):
        raise type(error)(*error.args)

    monkeypatch.setattr(tracker, "planned", fails)
    rig.run([(steady(3 + i), 20) for i in range(3)])
    status = rig.controller.status(rig.now)
    assert (status.moving, status.code) == (False, Code.TRAJECTORY_FAILED)
    assert type(error).__name__ in status.message and "\n" not in status.message
    assert rig.controller.at_rest
    assert_within(CALM.limits, rig.displacements())
    monkeypatch.undo()
    rig.run([(steady(0, goal=2), 20)])
    assert rig.controller.status(rig.now).moving


def test_a_single_failure_is_made_up_for(monkeypatch):
    rig, planned, calls = Rig(CALM), tracker.planned, []

    def fails_at_times(*given):
        calls.append(1)
        if len(calls) % 7 == 0:
            raise ruckig.RuckigError("now and then")
        return planned(*given)

    monkeypatch.setattr(tracker, "planned", fails_at_times)
    rig.run([(steady(i), 20) for i in range(5)] + [(steady(5), 60)])
    np.testing.assert_allclose(rig.sent[-1].position, [0.18, 0.0, 0.0], atol=1e-3)


def test_limits_of_zero_are_no_end_of_the_process():
    """What ruckig says to them is an error of its own, which derives from no other."""
    still = Tracker(Pose(np.zeros(3), np.eye(3)))
    zero = replace(CALM.limits, linear_velocity=0.0)
    for _ in range(30):
        still.step(Pose(np.full(3, 0.1), np.eye(3)), 0.01, zero, np.full(3, -1.0), np.full(3, 1.0), JointLimits())
    assert still.refusal.code == Code.TRAJECTORY_FAILED and "RuckigError" in still.refusal.message
    np.testing.assert_array_equal(still.pose.position, np.zeros(3))
