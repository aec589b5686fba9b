# SPDX-License-Identifier: Apache-2.0
"""Children are stopped in steps and in whole groups, and end when their supervisor dies, however it dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vla_sd_ros import supervisor
from vla_sd_ros.supervisor import ChildEnded, Interrupted, Supervisor

POLITE = "import time; print('up', flush=True); time.sleep(60)"
DEAF = "import signal; [signal.signal(n, signal.SIG_IGN) for n in (2, 15)];" + POLITE
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


def wait_for(condition, what: str, timeout: float = 10.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def is_up(child) -> bool:
    return "up" in child.log.read_text()


def test_leaving_the_context_stops_a_polite_child_at_once(tmp_path):
    with Supervisor(dict(os.environ), tmp_path) as children:
        child = children.start("polite", python(POLITE))
        wait_for(lambda: is_up(child), "the child")
        start = time.monotonic()
    assert not child.alive and time.monotonic() - start < 2.0


def test_a_deaf_child_is_killed_after_its_deadlines(tmp_path, monkeypatch):
    steps = tuple((number, 0.3) for number, _ in supervisor.STOP_STEPS)
    monkeypatch.setattr(supervisor, "STOP_STEPS", steps)
    with Supervisor(dict(os.environ), tmp_path) as children:
        child = children.start("deaf", python(DEAF))
        wait_for(lambda: is_up(child), "the child")
    assert child.process.returncode == -signal.SIGKILL


def test_what_a_child_started_is_stopped_too(tmp_path):
    with Supervisor(dict(os.environ), tmp_path) as children:
        child = children.start("parent", python(PARENT, "import os; print('up', os.getpid(), flush=True);" + DEAF))
        wait_for(lambda: is_up(child), "the grandchild")
        grandchild = int(child.log.read_text().split()[1])
        assert running(grandchild)
    wait_for(lambda: not running(grandchild), "the grandchild's end", 2.0)


def test_a_killed_supervisor_leaves_no_child(tmp_path):
    code = (
        "import os, sys, time; from pathlib import Path; from vla_sd_ros.supervisor import Supervisor\n"
        "with Supervisor(dict(os.environ), Path(sys.argv[1])) as s:\n"
        "    print(s.start('child', [sys.executable, '-c', sys.argv[2]]).process.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(python(code, str(tmp_path), POLITE), stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert running(child)
    parent.kill()
    parent.wait()
    wait_for(lambda: not running(child), "the child's end", 5.0)


def test_a_child_that_ends_is_noticed_with_its_own_sentence(tmp_path):
    with Supervisor(dict(os.environ), tmp_path) as children:
        child = children.start("node", python("raise SystemExit('could not start: the limit is not finite')"))
        wait_for(lambda: not child.alive, "the child's end")
        with pytest.raises(ChildEnded, match="^node: the limit is not finite$"):
            children.check()


def test_a_logged_error_is_the_sentence_and_a_traceback_is_not(tmp_path):
    log = (
        "[ERROR] [1.2] [vla.vla_node]: checkpoint 'x' was not found\n"
        "[FATAL] [1.3] [vla.vla_node]: Traceback (most recent call last):\nValueError\n"
    )
    with Supervisor(dict(os.environ), tmp_path) as children:
        child = children.start("vla_node", python("import sys; print(sys.argv[1]); sys.exit(1)", log))
        wait_for(lambda: not child.alive, "the child's end")
        assert child.sentence() == "checkpoint 'x' was not found"


def test_a_killed_child_is_told_by_its_signal(tmp_path):
    with Supervisor(dict(os.environ), tmp_path) as children:
        child = children.start("node", python(POLITE))
        wait_for(lambda: is_up(child), "the child")
        child.process.kill()
        wait_for(lambda: not child.alive, "the child's end")
        assert child.sentence() == "ended by SIGKILL; its last line: up"


def test_an_error_of_the_past_is_not_why_a_killed_child_ended(tmp_path):
    with Supervisor(dict(os.environ), tmp_path) as children:
        child = children.start("node", python("print('[ERROR] [1.2] [vla.arm_node]: the camera is dark');" + POLITE))
        wait_for(lambda: is_up(child), "the child")
        assert child.sentence() == "the camera is dark"
        child.process.kill()
        wait_for(lambda: not child.alive, "the child's end")
        assert child.sentence() == "ended by SIGKILL; its last line: up"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_interrupts_the_next_check_and_the_old_handler_comes_back(tmp_path, number):
    before = signal.getsignal(number)
    with Supervisor(dict(os.environ), tmp_path) as children:
        os.kill(os.getpid(), number)
        with pytest.raises(Interrupted, match=number.name):
            children.check()
    assert signal.getsignal(number) is before
