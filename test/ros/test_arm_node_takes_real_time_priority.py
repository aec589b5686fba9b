# SPDX-License-Identifier: Apache-2.0
"""realtime_priority puts all threads of arm_node under SCHED_FIFO; where that is not permitted, it says so."""

import os
from pathlib import Path

import pytest

from vla_sd_ros.nodes import realtime


def permitted() -> bool:
    """Tried in a child, so that the tests themselves stay ordinary."""
    child = os.fork()
    if child == 0:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
        except PermissionError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def test_arm_node_runs_in_real_time_or_says_what_it_needs(start):
    process = start("vla_sd_ros.nodes.arm_node", {"autostart": True, "realtime_priority": 10})
    if not permitted():
        line = process.wait_for_line("could not configure")
        assert "realtime_priority is 10, but the system does not permit it" in line and "limits.conf" in line
        return
    process.wait_for_line("is active")
    threads = [int(task.name) for task in Path(f"/proc/{process.process.pid}/task").iterdir()]
    assert len(threads) > 1
    assert {(os.sched_getscheduler(t), os.sched_getparam(t).sched_priority) for t in threads} == {(os.SCHED_FIFO, 10)}


def test_what_is_not_permitted_is_one_sentence(monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with pytest.raises(RuntimeError, match="rtprio of 50 in /etc/security/limits.conf"):
        realtime.take_priority(50)
