# SPDX-License-Identifier: Apache-2.0
"""`ros2 launch` as a real process, for the tests that have it."""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest


class Launch:
    """A launch file of the package, started by `ros2 launch` in a ROS domain, process group and folder of its own."""

    def __init__(self, folder: Path, *arguments: str):
        from vla_sd_ros.demo import free_domain

        self.log = folder / "launch.log"
        environment = dict(
            os.environ, ROS_DOMAIN_ID=str(free_domain()), ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST", ROS_LOG_DIR=str(folder / "log")
        )
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                ["ros2", "launch", "vla_sd_ros", *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                cwd=folder,
                # Ctrl-C is sent to it, and a shell starts what it runs in the background with that ignored.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, pattern: str, timeout: float = 90.0) -> str:
        deadline = time.monotonic() + timeout
        while not (found := re.search(pattern, self.said)):
            assert self.process.poll() is None and time.monotonic() < deadline, self.said
            time.sleep(0.1)
        return found[1] if found.re.groups else found[0]

    def pid(self, node: str) -> int:
        return int(self.wait_for(rf"\[{node}-\d\]: process started with pid \[(\d+)\]"))

    def left(self) -> list[int]:
        """Processes that it has started and that are still there."""
        pids = re.findall(r"process started with pid \[(\d+)\]", self.said)
        return [int(pid) for pid in pids if Path(f"/proc/{pid}").exists()]

    def kill(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        for pid in self.left():
            os.kill(pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def launch(tmp_path):
    """Starts `ros2 launch vla_sd_ros ARGUMENTS`, from a folder that has nothing to do with the package."""
    pytest.importorskip("launch_ros", reason="launch is not on PyPI: only an ordinary ROS installation has it")
    if shutil.which("ros2") is None:
        pytest.skip("the command ros2 is not on the path")
    started = []

    def begin(*arguments):
        started.append(Launch(tmp_path, *arguments))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
