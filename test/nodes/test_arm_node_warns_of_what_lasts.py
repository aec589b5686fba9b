# SPDX-License-Identifier: Apache-2.0
"""The log of arm_node: a warning for what is wrong in motion or lasts, none for what a normal start looks like for a moment; and in
/diagnostics that most commands are clipped."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from builtin_interfaces.msg import Time

from vla_sd_ros.control.codes import Code, Fault
from vla_sd_ros.control.config import Config
from vla_sd_ros.control.gripper import State
from vla_sd_ros.nodes import arm_report
from vla_sd_ros.nodes.parameters import OK, WARN

sys.path.insert(0, str(Path(__file__).parents[1] / "control"))
from test_motion_stays_within_limits import Rig, steady  # noqa: E402

NOBODY = "nobody listens to /wx250s/commands/joint_single"


class Reported:
    """ArmReport of a controller and a gripper, 10 Hz; `log`: (level, sentence)."""

    def __init__(self, monkeypatch, config=Config(max_translation=0.01, workspace_low=np.full(3, -1.0))):
        self.rig, self.log, self.problem = Rig(config), [], ""
        logger = SimpleNamespace(
            info=lambda text: self.log.append(("info", text)), warning=lambda text: self.log.append(("warning", text))
        )
        self.node = SimpleNamespace(
            controller=self.rig.controller,
            active=True,
            state="active",
            values={"base_frame": "base", "dry_run": False, "arm.interface": "pose_target", "gripper.interface": "topic"},
            commands=SimpleNamespace(topic_name="/vla/command"),
            count_publishers=lambda topic: 1,
            get_logger=lambda: logger,
            create_publisher=lambda *_: SimpleNamespace(publish=lambda message: None),
            get_clock=lambda: SimpleNamespace(now=lambda: SimpleNamespace(to_msg=Time)),
        )
        monkeypatch.setattr(arm_report, "time", SimpleNamespace(monotonic=lambda: self.rig.now))
        gripper = SimpleNamespace(poll=lambda now: None, state=lambda: State.UNKNOWN, problem=lambda: self.problem)
        self.report = arm_report.ArmReport(self.node, gripper)

    def pass_time(self, seconds, measure=True):
        for _ in range(round(10 * seconds)):
            for _ in range(10):
                self.rig.tick(measure=measure)
            self.report.publish()


@pytest.fixture
def reported(monkeypatch):
    return Reported(monkeypatch)


def test_a_gripper_whose_driver_comes_within_a_second_is_no_warning(reported):
    reported.problem = NOBODY
    reported.pass_time(0.9)
    reported.problem = ""
    reported.pass_time(3.0)
    assert reported.log == [("info", f"gripper: {NOBODY}")]


def test_one_that_does_not_come_is_one_warning(reported):
    reported.problem = NOBODY
    reported.pass_time(5.0)
    assert reported.log == [("info", f"gripper: {NOBODY}"), ("warning", f"gripper: {NOBODY}")]


def test_nothing_is_a_warning_before_the_robots_side_has_started(reported):
    reported.rig.controller.measured, reported.problem = None, NOBODY
    reported.pass_time(20.0, measure=False)
    assert {level for level, _ in reported.log} == {"info"}
    assert any("no usable joint states" in text for _, text in reported.log)


def test_joint_states_that_pause_for_a_moment_are_no_warning_and_those_that_stay_away_are(reported):
    reported.pass_time(0.5)
    reported.pass_time(0.8, measure=False)
    reported.pass_time(0.5)
    assert [level for level, _ in reported.log] == ["info"]
    reported.pass_time(2.0, measure=False)
    assert [level for level, _ in reported.log] == ["info", "info", "warning"]


def test_what_stops_a_motion_is_a_warning_at_once(reported):
    reported.rig.controller.command(steady(0), reported.rig.now)
    reported.pass_time(0.1)
    reported.rig.controller.end(Fault(Code.ROBOT_FAULT, "the driver says no"))
    reported.report.publish()
    assert reported.log == [("warning", "the driver says no")]


def test_a_goal_of_which_most_commands_are_clipped_is_told_in_the_diagnostics(reported):
    assert reported.report.diagnose()[:2] == (OK, "no goal has begun")
    for step, sign in enumerate(np.resize([1.0, -1.0], 40)):
        reported.rig.controller.command(steady(step, translation=(0.04 * sign, 0.0, 0.0)), reported.rig.now)
        reported.pass_time(0.2)
    level, sentence, values = reported.report.diagnose()
    assert level == WARN and "most commands are shortened to step.max_translation" in sentence and "action_scale" in sentence
    assert values["commands clipped"] == 40 and reported.log == []
