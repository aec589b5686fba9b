# SPDX-License-Identifier: Apache-2.0
"""arm_node stops when commands or joint states stop, or a command makes no sense; says why; and goes on afterwards."""

import time

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from panda import command
from vla_sd_msgs.msg import ArmStatus, EndEffectorCommand


def positions(seen) -> np.ndarray:
    return np.array([[m.pose.position.x, m.pose.position.y, m.pose.position.z] for _, m in seen])


def drive(ros, steps, first=0, **fields):
    for step in range(first, first + steps):
        ros.publish(EndEffectorCommand, "command", command(step=step, translation=(0.02, 0.0, 0.0), **fields))
        time.sleep(0.2)


def assert_rests(arm_node, code):
    """The last status has the code; the held pose is sent on at 100 Hz and does not move."""
    last = arm_node.statuses[-1][1]
    assert (last.state, last.code) == (ArmStatus.HOLDING, code)
    begin = len(arm_node.targets)
    time.sleep(0.3)
    held = positions(arm_node.targets[begin:])
    assert len(held) >= 20
    np.testing.assert_allclose(held, np.broadcast_to(held[0], held.shape), atol=1e-9)


def test_commands_that_stop_end_in_hold_and_a_new_goal_moves_again(arm_node, ros):
    diagnostics = ros.listen(DiagnosticArray, "/diagnostics")
    drive(ros, 2)
    time.sleep(0.6)
    assert_rests(arm_node, ArmStatus.COMMAND_STALE)
    assert arm_node.statuses[-1][1].message == "vla_node sent nothing for 0.5 s, so the arm holds"
    ros.wait_until(lambda: any(m.status[0].level == DiagnosticStatus.ERROR for _, m in diagnostics), "an error", 3.0)
    assert diagnostics[-1][1].status[0].name == "vla/arm_node"
    drive(ros, 1, goal=2)
    assert arm_node.statuses[-1][1].state == ArmStatus.MOVING


def test_joint_states_that_stop_end_in_hold_and_motion_resumes_with_them(arm_node, ros):
    drive(ros, 2)
    arm_node.arm.stop()
    drive(ros, 3, first=2)
    assert_rests(arm_node, ArmStatus.JOINT_STATES_STALE)
    assert arm_node.statuses[-1][1].refused >= 1
    # The arm is where the target is by now, or it would have leapt.
    type(arm_node.arm)(ros, arm_node.arm.q)
    ros.wait_until(lambda: arm_node.statuses[-1][1].code == ArmStatus.NO_COMMAND, "fresh joint states", 2.0)
    drive(ros, 1, goal=2)
    assert arm_node.statuses[-1][1].code == ArmStatus.OK


@pytest.mark.parametrize(
    "broken, words",
    [
        ({"frame": "world"}, "its frame is 'world', but this arm's base frame is 'panda_link0'"),
        ({"rotation": (0.0, float("nan"), 0.0)}, "its rotation is [ 0. nan  0.], which is not finite"),
    ],
)
def test_a_command_that_makes_no_sense_ends_in_hold(arm_node, ros, broken, words):
    drive(ros, 2)
    before = positions(arm_node.targets)[-1]
    ros.publish(EndEffectorCommand, "command", command(step=3, **({"translation": (0.05, 0.0, 0.0)} | broken)))
    time.sleep(0.3)
    assert_rests(arm_node, ArmStatus.COMMAND_INVALID)
    status = arm_node.statuses[-1][1]
    assert words in status.message and status.refused == 1
    assert words in arm_node.log
    assert np.linalg.norm(positions(arm_node.targets)[-1] - before) < 0.02


def test_hold_stops_within_200_ms(arm_node, ros):
    drive(ros, 3)
    ros.publish(EndEffectorCommand, "command", command(step=3, hold=True))
    asked = time.monotonic()
    time.sleep(0.5)
    path = positions(arm_node.targets)
    moving = np.linalg.norm(np.diff(path, axis=0), axis=1) > 1e-7
    assert arm_node.targets[int(np.flatnonzero(moving)[-1]) + 1][0] - asked < 0.2
    assert_rests(arm_node, ArmStatus.NO_COMMAND)


def test_the_workspace_is_never_left(arm_node, ros):
    start = positions(arm_node.measured)[-1]
    wall = float(start[0]) + 0.03
    assert ros.set_parameter("arm_node", "workspace.max", [wall, 0.5, 0.9]).successful
    drive(ros, 5)
    path = positions(arm_node.targets)
    assert path[:, 0].max() <= wall + 1e-6
    np.testing.assert_allclose(path[-1, 0], wall, atol=1e-5)
    assert arm_node.statuses[-1][1].clipped >= 3
