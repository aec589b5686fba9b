# SPDX-License-Identifier: Apache-2.0
"""A training that is ended from outside leaves none of its processes behind, in the background of a script either."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def wait(rank: int, folder: str) -> None:
    (Path(folder) / str(rank)).write_text(str(os.getpid()))
    time.sleep(60)


def test_no_process_outlives_the_one_that_was_started(tmp_path):
    code = f"""
import signal
from test_training_ends_whole import wait
from vla_sd_ros.training import loop
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for the jobs of its background
if __name__ == "__main__":
    loop.spawn(wait, ({str(tmp_path)!r},), 2)
"""
    started = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parent)
    while len(ready := [path for path in tmp_path.iterdir() if path.read_text()]) < 2:
        assert started.poll() is None
        time.sleep(0.1)
    started.send_signal(signal.SIGTERM)
    started.wait()
    left = {int(path.read_text()) for path in ready}
    deadline = time.monotonic() + 10
    while left and time.monotonic() < deadline:
        left = {process for process in left if Path(f"/proc/{process}").exists()}
        time.sleep(0.1)
    for process in left:
        os.kill(process, signal.SIGKILL)
    assert not left
