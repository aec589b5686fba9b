# SPDX-License-Identifier: Apache-2.0
"""arm_node ends within 3 s with exit code 0, at rest; refuses wrong parameters in one sentence; obeys its lifecycle."""

import signal
import time

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from panda import Arm, command
from processes import LATCHED
from std_msgs.msg import String
from vla_sd_msgs.msg import EndEffectorCommand


def positions(seen) -> np.ndarray:
    return np.array([[m.pose.position.x, m.pose.position.y, m.pose.position.z] for _, m in seen])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_motion_brakes_and_ends_with_code_0(arm_node, ros, number):
    ros.publish(EndEffectorCommand, "command", command(translation=(0.05, 0.0, 0.0)))
    time.sleep(0.15)
    code, took = arm_node.end(number)
    assert (code, took < 3.0) == (0, True), arm_node.log
    time.sleep(0.2)
    steps = np.linalg.norm(np.diff(positions(arm_node.targets), axis=0), axis=1)
    assert steps.max() > 1e-3, "it did not move"
    assert steps[-1] < 1e-4, "the last pose sent is not one at rest"


def test_the_lifecycle_decides_when_anything_is_sent(start, ros):
    process = start("vla_sd_ros.nodes.arm_node", {})
    assert ros.state("arm_node") == "unconfigured"
    targets, measured = ros.listen(PoseStamped, "target_pose"), ros.listen(PoseStamped, "measured_pose")
    assert ros.change_state("arm_node", "configure")
    Arm(ros)
    ros.publish(EndEffectorCommand, "command", command())
    time.sleep(0.3)
    assert not targets and not measured
    assert ros.change_state("arm_node", "activate")
    ros.wait_until(lambda: measured, "a measured pose")
    ros.publish(EndEffectorCommand, "command", command())
    ros.wait_until(lambda: targets, "a target pose")
    assert ros.change_state("arm_node", "deactivate")
    time.sleep(0.1)
    before = len(targets)
    time.sleep(0.3)
    assert len(targets) == before
    assert ros.change_state("arm_node", "activate")
    time.sleep(0.3)
    assert len(targets) == before, "an old target survived the deactivation"
    for transition in ("deactivate", "cleanup", "configure"):
        assert ros.change_state("arm_node", transition)
    assert process.terminate() == 0


def test_dry_run_sends_nothing_and_leaving_it_does_not_move_the_arm(arm_node, ros):
    assert ros.set_parameter("arm_node", "dry_run", True).successful
    ros.publish(EndEffectorCommand, "command", command(translation=(0.02, 0.0, 0.0)))
    ros.wait_until(lambda: arm_node.statuses[-1][1].code == 0, "motion", 2.0)
    time.sleep(0.3)
    assert not arm_node.targets and not arm_node.openings
    assert ros.set_parameter("arm_node", "dry_run", False).successful
    time.sleep(0.3)
    assert not arm_node.targets


@pytest.mark.parametrize("arm_node", [{"rate": 50.0}], indirect=True)
def test_dry_run_holds_for_a_command_that_comes_at_once(arm_node, ros):
    for number in range(20):  # the next command may come before the next tick
        assert ros.set_parameter("arm_node", "dry_run", True).successful
        ros.publish(EndEffectorCommand, "command", command(goal=number + 1, gripper=float(number % 2)))
        time.sleep(0.1)
        assert not arm_node.targets and not arm_node.openings
        assert ros.set_parameter("arm_node", "dry_run", False).successful


@pytest.mark.parametrize(
    "parameters, words",
    [
        ({"rate": 100}, "parameter 'rate' is 100 of type integer, but must be double (write 1.0, not 1)"),
        ({"rate": 1000.0}, "parameter 'rate' is 1000.0, but must lie in 50.0 .. 200.0"),
        ({"workspace": {"mn": [0.0, 0.0, 0.0]}}, "arm_node has no parameter 'workspace.mn': did you mean 'workspace.min'?"),
        ({"workspace": {"min": [0.9, -0.5, 0.0]}}, "workspace.min is 0.9 and workspace.max is 0.8 in x"),
        ({"workspace": {"min": [0.1, -0.5]}}, "parameter 'workspace.min' has 2 entries, but needs 3"),
    ],
)
def test_wrong_parameters_are_refused_at_start_in_one_sentence(start, parameters, words):
    process = start("vla_sd_ros.nodes.arm_node", parameters)
    assert process.process.wait(15.0) == 1
    assert process.log.strip().splitlines()[-1].startswith("could not start: ")
    assert words in process.log and "Traceback" not in process.log


def test_live_parameters_are_validated_and_read_only_ones_say_so(arm_node, ros):
    refused = ros.set_parameter("arm_node", "gripper.close_below", 0.7)
    assert not refused.successful and "must be below gripper.open_above" in refused.reason
    assert not ros.set_parameter("arm_node", "limits.linear_velocity", 100.0).successful
    assert not ros.set_parameter("arm_node", "base_frame", "world").successful
    assert not ros.set_parameter("arm_node", "workspace.max", [0.1, 0.0, float("nan")]).successful
    assert ros.set_parameter("arm_node", "step.max_translation", 0.01).successful
    start_at = positions(arm_node.measured)[-1]
    ros.publish(EndEffectorCommand, "command", command(translation=(0.0, 0.05, 0.0)))
    time.sleep(0.6)
    np.testing.assert_allclose(positions(arm_node.targets)[-1], start_at + [0.0, 0.01, 0.0], atol=1e-5)


def test_a_robot_description_without_the_tip_is_named(start, ros):
    process = start("vla_sd_ros.nodes.arm_node", {"autostart": True})
    ros.publish(String, "robot_description", String(data="<robot name='x'><link name='base'/></robot>"), LATCHED)
    line = process.wait_for_line("cannot use robot_description")
    assert "no link 'panda_tcp'; its links are: base" in line


def test_the_shipped_parameter_file_starts_it(start, ros):
    from pathlib import Path

    config = Path(__file__).parents[2] / "config" / "sim.yaml"
    process = start("vla_sd_ros.nodes.arm_node", {}, "--params-file", str(config))
    process.wait_for_line("arm_node is active")
