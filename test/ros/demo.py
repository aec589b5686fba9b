# SPDX-License-Identifier: Apache-2.0
"""`vla-sd demo` as a real process with a small random policy, which moves the arm but solves nothing."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from processes import Domain


class DemoProcess:
    """The command, its output, and the processes that it started. named: the domain by --domain-id, else in the environment."""

    def __init__(self, domain: Domain, folder: Path, *arguments: str, named: bool = True):
        self.runs = folder / "runs"
        self._domain = f"ROS_DOMAIN_ID={domain.id}".encode()
        options = ["--domain-id", str(domain.id)] * named + ["--output-dir", str(self.runs), *arguments]
        command = [sys.executable, "-m", "vla_sd_ros.cli", "demo", *options]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=domain.environment()
        )
        self.output = ""

    def read_until(self, text: str) -> None:
        """Read output up to the line that contains the text."""
        for line in self.process.stdout:
            self.output += line
            if text in line:
                return
        raise AssertionError(f"{text!r} was not printed; the output was:\n{self.output}")

    def end(self, number: int | None = None, timeout: float = 120.0) -> tuple[int, float]:
        """Send a signal, if any, and wait: exit code and time to the end [s]."""
        start = time.monotonic()
        if number is not None:
            self.process.send_signal(number)
        self.output += self.process.communicate(timeout=timeout)[0]
        return self.process.returncode, time.monotonic() - start

    def nodes(self) -> list[int]:
        """Ids of living node processes of this demo, told by the ROS domain in their environment."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                variables = (entry / "environ").read_bytes().split(b"\0")
                if self._domain in variables and b"vla_sd_ros.nodes" in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:  # it ended meanwhile
                continue
        return found

    @property
    def last_line(self) -> str:
        return self.output.strip().splitlines()[-1]

    @property
    def run_folder(self) -> Path:
        (folder,) = self.runs.iterdir()
        return folder

    def result(self) -> dict[str, str]:
        """The figures of the last line."""
        assert self.last_line.startswith("RESULT "), self.output
        return dict(re.findall(r"(\w+)=(\S+)", self.last_line))

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        for pid in self.nodes():
            os.kill(pid, signal.SIGKILL)
