# SPDX-License-Identifier: Apache-2.0
"""Child processes that never outlive their supervisor: started in groups of their own, watched, stopped in steps."""

import ctypes
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# How long a process may take after each signal [s]; nodes of this package stop within 2 s.
STOP_STEPS = ((signal.SIGINT, 3.0), (signal.SIGTERM, 2.0), (signal.SIGKILL, 1.0))
POLL = 0.02  # [s]
PR_SET_PDEATHSIG = 1  # linux/prctl.h
ERROR_LINES = re.compile(r"(?:\[(?:ERROR|FATAL)\] \[[^]]*\] \[[^]]*\]: |could not start: )(?!Traceback)(.*)")


class Interrupted(Exception):
    """SIGINT, SIGTERM or SIGHUP came."""

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class ChildEnded(Exception):
    """A child process ended by itself; the message is its own sentence."""


class Child:
    """One process in its own group; stdout and stderr go to the file `log`."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], log: Path):
        self.name, self.log = name, log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def sentence(self) -> str:
        """The error that the process told last, where it failed or refused something; else how it ended."""
        text, code = self.log.read_text(errors="replace"), self.process.poll()
        told = ERROR_LINES.findall(text)
        if told and (code is None or code > 0):  # otherwise the error was not its end
            return told[-1]
        lines = [line for line in text.splitlines() if line.strip()]
        if code is None:
            how = "it gave no reason"
        else:
            how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"{how}; its last line: {lines[-1].strip()}" if lines else how

    def signal(self, number: int) -> None:
        """To the whole group, so that nothing that the process started is left behind."""
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass


class Supervisor:
    """Use as a context manager: leaving it stops every child. Signals are noted, and raised by check().

    environment: of the children. logs: folder for their output, NAME.log.
    """

    def __init__(self, environment: dict[str, str], logs: Path):
        self._environment, self._logs = environment, logs
        self.children: dict[str, Child] = {}
        self.signal: int | None = None
        self._handlers: dict[int, Any] = {}  # as signal.signal() gives and takes them

    def __enter__(self) -> "Supervisor":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._handlers[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: object) -> None:
        self.signal = number

    def start(self, name: str, command: list[str]) -> Child:
        """Start a process under a name; its output goes to NAME.log."""
        self.children[name] = Child(name, command, self._environment, self._logs / f"{name}.log")
        return self.children[name]

    def check(self) -> None:
        """Raises Interrupted after a signal, ChildEnded when a child is gone."""
        if self.signal is not None:
            raise Interrupted(self.signal)
        for child in self.children.values():
            if not child.alive:
                raise ChildEnded(f"{child.name}: {child.sentence()}")

    def stop(self, names: Iterable[str] | None = None) -> None:
        """Stop these children, or all: SIGINT, then SIGTERM, then SIGKILL, each with its deadline. Never raises."""
        stopping = [self.children.pop(name) for name in list(self.children if names is None else names)]
        for number, patience in STOP_STEPS:
            alive = [child for child in stopping if child.alive]
            for child in alive:
                child.signal(number)
            deadline = time.monotonic() + patience
            while any(child.alive for child in alive) and time.monotonic() < deadline:
                time.sleep(POLL)
        for child in stopping:
            child.signal(signal.SIGKILL)  # what is left of its group


def _end_with_parent() -> None:
    """Runs in the child before exec: the kernel sends SIGTERM when the supervisor dies, however it dies (Linux)."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)
