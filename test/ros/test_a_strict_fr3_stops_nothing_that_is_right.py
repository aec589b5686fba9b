# SPDX-License-Identifier: Apache-2.0
"""On a simulator as strict as the FCI, goals run without a reflex, and a client that pauses is stopped and recovers.

Skipped where franka-sim has no environment of its own (FRANKA_SIM_PYTHON).
"""
import signal
import time

from by_pip import ByPip
from vendors import StrictFr3
from vla_sd_msgs.msg import ArmStatus

GOALS = 8
PAUSE = 0.12  # s: six times what the FCI allows


def test_eight_goals_without_a_reflex_then_a_pause_of_the_client(tmp_path):
    with StrictFr3(tmp_path) as robot, ByPip("franka", robot, tmp_path) as arm:
        time.sleep(3.0)  # what starts takes all of the processor, and the FCI bears no pause
        arm.home()
        for goal in range(1, GOALS + 1):
            assert arm.circle(goal)["way [mm]"] > 250.0
            assert ArmStatus.ROBOT_FAULT not in [m.code for _, m in arm.statuses], arm.statuses[-1][1].message

        driver = arm.processes[arm.driver].process
        driver.send_signal(signal.SIGSTOP)
        time.sleep(PAUSE)
        driver.send_signal(signal.SIGCONT)
        arm.processes[arm.driver].wait_for_line("communication_constraints_violation", 5.0)
        time.sleep(1.0)
        assert not arm.circle(GOALS + 1)["way [mm]"] > 20.0, "it recovered by itself"
        answer = arm.call("recover")
        assert answer.success, answer.message
        assert arm.circle(GOALS + 2)["way [mm]"] > 250.0
