# SPDX-License-Identifier: Apache-2.0
"""A goal ends once, the arm holds with it, and nothing of it moves the arm afterwards; by a clock that the test sets."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("vla_sd_msgs.action", reason="vla_sd_msgs is not installed (pip install ./msg)")

from rclpy.action import CancelResponse  # noqa: E402
from standin import Handle, Node, Publisher, SetClock  # noqa: E402
from unique_identifier_msgs.msg import UUID  # noqa: E402
from vla_sd_msgs.action import ExecuteInstruction  # noqa: E402
from vla_sd_msgs.msg import ArmStatus, TaskSuccess  # noqa: E402

from vla_sd_ros.nodes.goals import Goals  # noqa: E402
from vla_sd_ros.nodes.inputs import Inputs  # noqa: E402
from vla_sd_ros.watching.goal import DEACTIVATED, SUCCESS, GoalCode  # noqa: E402
from vla_sd_ros.watching.inputs import Sample  # noqa: E402


class Bench:
    """Goals whose inputs are all fresh, unless a test says otherwise."""

    def __init__(self, **values):
        self.node, self.clock = Node(**values), SetClock()
        self.inputs = Inputs(self.node, self.clock)
        self.inputs.poll, self.inputs.image_advice = self.freshen, lambda: "check the publisher and its clock"
        self.commands, self.announcements = Publisher(), Publisher()
        self.goals = Goals(self.node, self.clock, self.inputs, self.commands, self.announcements)

    def freshen(self):
        for latest in (self.inputs.images, self.inputs.joint_states, self.inputs.arm):
            message = ArmStatus() if latest is self.inputs.arm else SimpleNamespace(encoding="rgb8")
            latest.sample = Sample(message, self.clock.time, self.clock.time)

    def accept(self, number: int = 1, **fields):
        """A goal that is accepted, and its handle."""
        handle = Handle(number=number, **fields)
        handle.goal_id = UUID(uuid=np.full(16, number, np.uint8))
        self.goals.on_accepted(handle)
        return self.goals.running, handle

    def answer(self, handle) -> ExecuteInstruction.Result:
        """What the goal's client gets; the goal must be over."""
        return handle.execution(handle)


@pytest.fixture
def bench():
    return Bench()


def test_a_goal_goes_on_until_its_time_is_over(bench):
    run, handle = bench.accept(time_limit=5.0)
    bench.clock.time += 4.9
    bench.goals.supervise(run)
    assert run.ending is None and not bench.commands
    bench.clock.time += 0.2
    bench.goals.supervise(run)
    assert bench.commands[-1].hold and bench.goals.running is None
    result = bench.answer(handle)
    assert (result.error_code, result.termination_reason, handle.ended) == (GoalCode.TIME_LIMIT, "time_limit", "aborted")
    assert result.elapsed_time == pytest.approx(5.1)


def test_whoever_ends_it_first_wins(bench):
    run, handle = bench.accept()
    bench.goals.end(run, SUCCESS)
    bench.goals.end(run, DEACTIVATED)
    assert bench.answer(handle).error_code == GoalCode.NONE and handle.ended == "succeeded"
    assert [command.hold for command in bench.commands] == [True]


def test_a_newer_goal_takes_over_without_a_hold(bench):
    first, handle = bench.accept(1)
    second, _ = bench.accept(2, instruction="open the drawer")
    assert bench.goals.running is second and not bench.commands
    assert bench.answer(handle).error_code == GoalCode.PREEMPTED and handle.ended == "aborted"
    assert [message.instruction for message in bench.announcements] == ["pick up the milk", "", "open the drawer"]


def test_a_cancelled_goal_holds_and_cannot_be_cancelled_again(bench):
    _, handle = bench.accept()
    assert bench.goals.on_cancel(handle) == CancelResponse.ACCEPT
    assert bench.goals.on_cancel(handle) == CancelResponse.REJECT
    handle.is_cancel_requested = True
    assert bench.answer(handle).error_code == GoalCode.CANCELED and handle.ended == "canceled" and bench.commands[-1].hold


@pytest.mark.parametrize(
    "state, sentence, published, ended",
    [
        (TaskSuccess.SUCCESS, "", +0.1, GoalCode.NONE),
        (TaskSuccess.FAILURE, "", +0.1, GoalCode.TASK_FAILED),
        (TaskSuccess.SUCCESS, "Pick up the milk!", +0.1, GoalCode.NONE),
        (TaskSuccess.SUCCESS, "", -0.1, None),
        (TaskSuccess.SUCCESS, "open the drawer", +0.1, None),
    ],
    ids=["success", "failure", "of this sentence", "from before the goal", "of another sentence"],
)
def test_success_is_of_this_goal(bench, state, sentence, published, ended):
    run, _ = bench.accept()
    message = TaskSuccess(state=state, instruction=sentence, message="the butter was moved")
    bench.goals.on_success(message, {"source_timestamp": bench.clock.wall() + int(1e9 * published)})
    assert (run.ending and run.ending.code) == ended


def test_a_stale_image_holds_and_then_ends_the_goal(bench):
    run, _ = bench.accept()
    bench.goals.supervise(run)
    bench.inputs.poll = lambda: None
    for latest in (bench.inputs.joint_states, bench.inputs.arm):
        latest.age = lambda clock, steady: 0.0
    bench.inputs.arm.sample = None
    bench.clock.time += 1.5
    bench.goals.supervise(run)
    assert run.holding and bench.commands[-1].hold and run.ending is None and "camera image is 1.5 s old" in bench.node.log[-1]
    bench.inputs.arm.sample = Sample(ArmStatus(), bench.clock.time + 2.0, bench.clock.time + 2.0)
    bench.clock.time += 2.0
    bench.goals.supervise(run)
    assert run.ending.code == GoalCode.IMAGE_STALE and len(bench.commands) == 2


@pytest.mark.parametrize(
    "state, active, sentence", [("configuring", False, "still loading the model"), ("inactive", False, "is inactive, not active")]
)
def test_a_node_that_is_not_active_says_so(bench, state, active, sentence):
    bench.node.state, bench.node.active = state, active
    assert sentence in bench.goals.objection(ExecuteInstruction.Goal(instruction="pick up the milk"))


def test_a_goal_that_comes_as_the_node_is_deactivated_ends_at_once(bench):
    def unknown_words(instruction: str) -> list[str]:
        bench.node.active = False  # after the goal was looked at
        return []

    bench.node.brain = SimpleNamespace(unknown_words=unknown_words, too_long=lambda sentence: "")
    _, handle = bench.accept()
    assert bench.answer(handle).error_code == GoalCode.NODE_DEACTIVATED and bench.commands[-1].hold


def test_a_goal_that_cannot_begin_says_why_in_its_result_and_disturbs_no_other(bench):
    run, _ = bench.accept(1)
    said = len(bench.announcements)
    _, handle = bench.accept(2, instruction="  ")
    result = bench.answer(handle)
    assert (result.error_code, result.termination_reason, handle.ended) == (GoalCode.GOAL_REFUSED, "refused", "aborted")
    assert result.error_msg == "the instruction is empty; say in words what the arm shall do." and result.steps == 0
    assert bench.goals.running is run and run.ending is None
    assert not bench.commands and len(bench.announcements) == said
    assert bench.goals.on_cancel(handle) == CancelResponse.REJECT


def test_words_that_nobody_trained_are_refused_where_that_is_wanted(bench):
    bench.node.brain = SimpleNamespace(unknown_words=lambda sentence: ["zeppelin"], too_long=lambda sentence: "")
    goal = ExecuteInstruction.Goal(instruction="pick up the zeppelin")
    assert bench.goals.objection(goal) == ""
    bench.node.values["goal.unknown_words"] = "reject"
    assert "never trained on these words: zeppelin" in bench.goals.objection(goal)
