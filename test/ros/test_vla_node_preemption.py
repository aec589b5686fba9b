# SPDX-License-Identifier: Apache-2.0
"""A second goal takes over: the first is aborted as preempted, and the arm moves on without a hold in between."""

from action_msgs.msg import GoalStatus
from vla_sd_msgs.action import ExecuteInstruction

from vla_sd_ros.client import InstructionClient


def test_a_second_goal_preempts_the_first(vla):
    first = InstructionClient("vla", "first_client", context=vla.ros.context)
    try:
        first.start("pick up the milk")
        vla.ros.wait_until(lambda: len(vla.motions()) >= 3, "three actions of the first goal")
        old = bytes(vla.motions()[0][1].goal_id.uuid)
        vla.start_moving("pick up the butter", steps=6)

        result = first.result(2.0)
        assert first.status == GoalStatus.STATUS_ABORTED
        assert result.error_code == ExecuteInstruction.Result.PREEMPTED
        assert result.termination_reason == "preempted"
        assert result.error_msg == "A newer goal took over."
        assert vla.client.running
    finally:
        first.close()

    ids = [bytes(c.goal_id.uuid) for _, c in vla.motions()]
    steps = [c.step for _, c in vla.motions()]
    count = ids.count(old)
    assert result.steps == count
    assert ids == [old] * count + [ids[-1]] * (len(ids) - count), "the goals did not follow one another"
    assert steps == [*range(count), *range(len(ids) - count)]
    assert not vla.holds()
    pause = vla.motions()[count][0] - vla.motions()[count - 1][0]
    assert pause < 0.5, f"the motion paused for {pause:.2f} s"
