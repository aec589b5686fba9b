# SPDX-License-Identifier: Apache-2.0
"""A simulator that resets its scene says so first: the goal is over, and the leap of the joints accuses nobody."""

from dataclasses import replace

import numpy as np
from test_motion_stays_within_limits import CONFIG, Rig, steady

from vla_sd_ros.control.codes import Code, Fault
from vla_sd_ros.control.joint_states import JointStateWatch


def test_a_leap_that_was_announced_is_no_jump():
    def watch():
        one = JointStateWatch(["elbow"], np.array([-3.0]), np.array([3.0]), np.array([2.0]))
        assert one.check(np.array([1.0]), 10.0, 0.0) is None
        return one

    assert "second publisher of joint_states" in watch().check(np.array([-1.0]), 10.01, 0.01).message
    announced = watch()
    announced.forget()
    assert announced.check(np.array([-1.0]), 10.01, 0.01) is None
    assert announced.check(np.array([1.0]), 10.02, 0.02).code == Code.JOINT_STATES_INVALID  # once only


def test_an_abandoned_goal_brakes_without_a_fault_and_its_commands_are_refused():
    rig = Rig(replace(CONFIG, workspace_high=np.full(3, 1.0)))
    rig.run([(steady(0), 20), (steady(1), 10)])
    rig.controller.end(Fault(Code.NO_COMMAND, "the scene was reset"))
    rig.run([(steady(2), 50)])
    status = rig.controller.status(rig.now)
    assert rig.controller.at_rest and not status.moving
    assert (status.code, status.message, status.refused) == (Code.NO_COMMAND, "the scene was reset", 1)
    rig.run([(replace(steady(3), goal_id=bytes(16)), 5)])
    assert rig.controller.status(rig.now).moving
