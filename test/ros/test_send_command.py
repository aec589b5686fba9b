# SPDX-License-Identifier: Apache-2.0
"""`vla-sd send` as a process: progress and result in words, exit codes, the node's own sentence, and Ctrl-C cancels."""

import signal
import subprocess
import sys

from processes import LATCHED
from vla_sd_msgs.msg import TaskSuccess


def send(vla, *arguments):
    command = [sys.executable, "-m", "vla_sd_ros.cli", "send", *arguments]
    return subprocess.Popen(command, env=vla.domain.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process, timeout=60.0):
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def test_a_goal_that_ends_without_success_is_exit_code_1_and_says_why(vla):
    code, out, _ = finish(send(vla, "pick up the milk", "--step-limit", "4", "--wait", "30"))
    assert code == 1
    assert "step_limit after 4 steps" in out and "step   4" in out
    assert len(vla.motions()) == 4


def test_a_solved_task_is_exit_code_0(vla):
    process = send(vla, "pick up the milk")
    vla.ros.wait_until(lambda: len(vla.motions()) >= 2, "two actions", 60.0)
    vla.ros.publish(TaskSuccess, "task_success", TaskSuccess(state=TaskSuccess.SUCCESS), LATCHED)
    code, out, _ = finish(process)
    assert code == 0 and "success after" in out


def test_ctrl_c_cancels_the_goal_and_the_arm_holds(vla):
    process = send(vla, "pick up the milk")
    vla.ros.wait_until(lambda: len(vla.motions()) >= 2, "two actions", 60.0)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130 and "the goal is cancelled" in err
    vla.ros.wait_until(vla.holds, "a hold command")
    assert vla.commands[-1][1].hold, "a motion came after the hold"


def test_a_goal_that_is_refused_is_exit_code_2_with_the_nodes_sentence(vla):
    code, out, err = finish(send(vla, "go", "--time-limit", "1e6"))
    assert (code, out) == (2, "") and "time_limit is 1e+06 s; it must lie in 0 .. 3600 s" in err


def test_a_node_that_is_not_there_is_exit_code_2_after_the_wait(vla):
    code, _, err = finish(send(vla, "pick up the milk", "--namespace", "elsewhere", "--wait", "1"))
    assert code == 2 and "vla_node of /elsewhere is not there after" in err
