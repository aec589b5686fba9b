# SPDX-License-Identifier: Apache-2.0
"""Every reason to hold stops the motion within the stopping time, has its code, and one sentence that names it."""

from dataclasses import replace

import numpy as np
import pytest
from test_motion_stays_within_limits import CONFIG, TICK, Rig, steady

from vla_sd_ros.control.controller import Code
from vla_sd_ros.kinematics.pose import Pose


@pytest.fixture
def rig():
    """An arm in the middle of its third command."""
    rig = Rig(replace(CONFIG, workspace_high=np.full(3, 1.0)))
    rig.run([(steady(0), 20), (steady(1), 20), (steady(2), 10)])
    assert rig.controller.status(rig.now).moving
    return rig


def assert_stops(rig, within: float, measure=True):
    for _ in range(int(np.ceil(within / TICK)) + 1):
        rig.tick(measure=measure)
    assert rig.controller.at_rest


STOPPING = CONFIG.limits.stopping_time()


@pytest.mark.parametrize(
    "broken, words",
    [
        ({"translation": np.array([0.0, np.nan, 0.0])}, "its translation is [ 0. nan  0.], which is not finite"),
        ({"rotation": np.array([np.inf, 0.0, 0.0])}, "its rotation is"),
        ({"gripper": float("nan")}, "its gripper is nan, which is not finite"),
        ({"period": float("inf")}, "its period is inf, which is not finite"),
        ({"period": 0.0}, "its period is 0 s, but must be positive"),
        ({"period": 0.8}, "no longer than command_timeout (0.5 s)"),
        ({"frame": "world"}, "its frame is 'world', but this arm's base frame is 'panda_link0'"),
        ({"frame": ""}, "its frame is ''"),
    ],
)
def test_a_command_that_makes_no_sense_is_refused(rig, broken, words):
    assert rig.controller.command(replace(steady(3, translation=(0.0, 0.0, 0.0)), **broken), rig.now) is None
    status = rig.controller.status(rig.now)
    assert (status.moving, status.code, status.refused) == (False, Code.COMMAND_INVALID, 1)
    assert words in status.message
    assert_stops(rig, STOPPING)


def test_hold_stops_and_the_next_command_starts_from_where_the_arm_stopped(rig):
    rig.controller.command(replace(steady(3), hold=True), rig.now)
    assert rig.controller.status(rig.now).code == Code.NO_COMMAND
    assert_stops(rig, STOPPING)
    stopped = rig.sent[-1].position
    rig.run([(steady(4), 60)])
    np.testing.assert_allclose(rig.sent[-1].position, stopped + [0.03, 0.0, 0.0], atol=1e-6)


def test_silence_of_vla_node_stops(rig):
    assert_stops(rig, CONFIG.settling_time())
    status = rig.controller.status(rig.now)
    assert (status.moving, status.code) == (False, Code.COMMAND_STALE)
    assert status.message == "vla_node sent nothing for 0.5 s, so the arm holds"


def test_joint_states_that_stop_stop_the_arm_until_they_are_back(rig):
    rig.run([(steady(3, translation=(0.001, 0.0, 0.0)), 0)])
    for _ in range(18):
        rig.tick(measure=False)
    assert rig.controller.status(rig.now).moving
    assert_stops(rig, CONFIG.joint_state_timeout - 18 * TICK + STOPPING, measure=False)
    rig.controller.unmeasured = "a joint position is not finite"
    status = rig.controller.status(rig.now)
    assert status.code == Code.JOINT_STATES_STALE
    assert status.message == "no usable joint states for 0.2 s, so the arm holds: a joint position is not finite"
    assert rig.controller.command(steady(4), rig.now) is None
    assert_stops(rig, 0.0, measure=False)
    rig.tick()
    assert rig.controller.status(rig.now).code == Code.NO_COMMAND
    rig.controller.command(steady(5), rig.now)
    assert rig.controller.status(rig.now).code == Code.OK


def test_a_command_before_any_joint_states_is_refused():
    rig = Rig()
    rig.controller.measured = None
    rig.controller.command(steady(0), rig.now)
    assert rig.controller.tick(rig.now) is None
    assert rig.controller.status(rig.now).refused == 1


def test_nothing_is_sent_before_the_first_command():
    rig = Rig()
    for _ in range(100):
        rig.tick()
    assert rig.sent == []


def test_the_held_target_is_sent_on(rig):
    rig.controller.hold("test")
    assert_stops(rig, STOPPING)
    before = len(rig.sent)
    for _ in range(300):
        rig.tick()
    assert len(rig.sent) == before + 300


def test_an_arm_that_is_put_elsewhere_while_it_holds_is_not_pulled_back(rig):
    rig.controller.hold("test")
    assert_stops(rig, STOPPING)
    rig.measured = Pose(np.array([0.03, 0.0, 0.0]), np.eye(3))
    rig.controller.measure(rig.measured, rig.now + TICK)
    before = len(rig.sent)
    rig.tick()
    assert len(rig.sent) == before
    assert "put elsewhere" in rig.controller.status(rig.now).message
    rig.run([(steady(6), 60)])
    np.testing.assert_allclose(rig.sent[-1].position, [0.06, 0.0, 0.0], atol=1e-6)


def test_an_arm_that_is_moved_slowly_by_something_else_is_let_go(rig):
    rig.controller.hold("test")
    assert_stops(rig, STOPPING)
    held = rig.sent[-1]
    for step in range(-110, 400):
        rig.now += TICK
        rig.controller.tick(rig.now)
        rig.controller.measure(held.moved(np.array([0.0, 0.0005 * max(step, 0), 0.0, 0.0, 0.0, 0.0])), rig.now)
    assert rig.controller.tick(rig.now) is None
    assert "away from the held target" in rig.controller.status(rig.now).message


def test_after_a_pause_of_the_process_the_motion_does_not_leap(rig):
    before = rig.sent[-1].position
    rig.now += 0.45
    rig.controller.measure(rig.measured, rig.now)
    rig.tick()
    assert np.linalg.norm(rig.sent[-1].position - before) <= 0.6 * 0.04


def test_clipped_commands_are_counted():
    rig = Rig()
    rig.run([(steady(0), 20), (steady(1, translation=(0.2, 0.0, 0.0)), 20), (steady(2, translation=(0.05, 0, 0)), 20)])
    assert rig.controller.status(rig.now).clipped == 2  # one for its length, one for the wall at 0.1


def test_the_codes_are_those_of_the_message():
    messages = pytest.importorskip("vla_sd_msgs.msg", reason="vla_sd_msgs is not installed (pip install ./msg)")
    for code in Code:
        assert int(code) == getattr(messages.ArmStatus, code.name)
