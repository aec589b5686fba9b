# SPDX-License-Identifier: Apache-2.0
"""What is said of a goal's own sentence during the goal ends it, as success or as failure; an older word, one about another
sentence, and the confession that nobody can tell do not. vla_node announces the sentence that is to be judged.
"""

from action_msgs.msg import GoalStatus
from processes import LATCHED
from vla_sd_msgs.action import ExecuteInstruction
from vla_sd_msgs.msg import RunningGoal, TaskSuccess

SENTENCE = "pick up the milk"


def say(vla, state, instruction=SENTENCE, message=""):
    vla.ros.publish(TaskSuccess, "task_success", TaskSuccess(instruction=instruction, state=state, message=message), LATCHED)


def test_success_ends_the_goal_and_only_a_new_one_counts(vla):
    say(vla, TaskSuccess.SUCCESS)  # latched, from before the goal
    vla.start_moving(steps=4)
    say(vla, TaskSuccess.OPEN)
    assert not vla.client.is_complete(0.3)
    say(vla, TaskSuccess.SUCCESS, '"Pick up the MILK."')
    result = vla.client.result(2.0)
    assert vla.client.status == GoalStatus.STATUS_SUCCEEDED
    assert (result.error_code, result.error_msg) == (ExecuteInstruction.Result.NONE, "")
    assert result.termination_reason == "success"
    assert result.steps == result.decode_summary.steps == len(vla.motions()) >= 4
    vla.ros.wait_until(vla.holds, "a hold command")


def test_success_of_another_sentence_is_none_of_this_goal(vla):
    vla.start_moving()
    say(vla, TaskSuccess.SUCCESS, "pick up the butter")
    assert not vla.client.is_complete(0.5)
    say(vla, TaskSuccess.SUCCESS, "")  # of whatever is running
    assert vla.client.result(2.0).termination_reason == "success"


def test_the_wrong_thing_done_ends_the_goal_with_what_it_was(vla):
    vla.start_moving()
    say(vla, TaskSuccess.FAILURE, message="the butter is where the milk was to go")
    result = vla.client.result(2.0)
    assert (result.error_code, result.termination_reason) == (result.TASK_FAILED, "failure")
    assert result.error_msg == "Something else was done than was asked for: the butter is where the milk was to go."


def test_what_nobody_can_judge_is_in_feedback_and_result_and_the_goal_goes_on(vla):
    vla.start_moving()
    say(vla, TaskSuccess.NOT_JUDGED, message="this scene has nothing called 'milk'")
    vla.wait_for_feedback(lambda feedback: feedback.not_judged)
    assert not vla.client.is_complete(0.2)
    vla.client.cancel()
    assert vla.client.result(2.0).not_judged == "this scene has nothing called 'milk'"


def test_the_running_goal_is_announced_and_so_is_its_end(vla):
    said = vla.ros.listen(RunningGoal, "goal", LATCHED)
    vla.start_moving()
    vla.ros.wait_until(lambda: said and said[-1][1].instruction == SENTENCE, "the running goal")
    vla.client.cancel()
    vla.client.result(2.0)
    vla.ros.wait_until(lambda: said[-1][1].instruction == "", "its end")


def test_words_that_the_policy_does_not_know_are_in_feedback_and_result(vla):
    vla.client.start("pick up the zeppelin")
    assert list(vla.wait_for_feedback().unknown_words) == ["zeppelin"]
    vla.client.cancel()
    assert list(vla.client.result(2.0).unknown_words) == ["zeppelin"]


def test_a_goal_with_unknown_words_can_be_refused(vla):
    import pytest

    from vla_sd_ros.client import GoalRejected

    assert vla.ros.set_parameter("vla_node", "goal.unknown_words", "reject")
    try:
        with pytest.raises(GoalRejected, match="never trained on these words: zeppelin; say it in other words"):
            vla.client.start("pick up the zeppelin")
            vla.client.result(5.0)
    finally:
        assert vla.ros.set_parameter("vla_node", "goal.unknown_words", "warn")
