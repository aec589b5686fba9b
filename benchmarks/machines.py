# SPDX-License-Identifier: Apache-2.0
"""Two machines on one: two network namespaces and a link between them. Needs root."""

import contextlib
import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

CLONE_NEWNET = 0x40000000  # linux/sched.h


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def move_to(namespace: int) -> None:
    """This thread, and all that it starts from here on, into a network namespace, by its file descriptor."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Cable:
    """The two ends of a link, robot0 and gpu0, without a fault."""

    def __enter__(self) -> "Cable":
        ip("link", "add", "robot0", "type", "veth", "peer", "name", "gpu0")
        return self

    def __exit__(self, *_: object) -> None:
        pass  # it goes with its namespaces


class WiFi:
    """The same ends with air.py between them."""

    def __enter__(self) -> "WiFi":
        command = [sys.executable, str(Path(__file__).with_name("air.py")), "robot0", "gpu0"]
        self._air = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._air.stdout.readline() == "ready\n"
        return self

    def set(self, loss: float, delay: float) -> None:
        """Share of frames that are lost, and how late the others are [s], from now on; each way."""
        print(json.dumps({"loss": loss, "delay": delay}), file=self._air.stdin, flush=True)

    def __exit__(self, *_: object) -> None:
        self.frames = json.loads(self._air.communicate()[0])


@contextlib.contextmanager
def two_machines(link: Cable | WiFi | None = None) -> Iterator[None]:
    """This process beside the robot, a namespace vla_gpu for vla_node, and a link robot0 - gpu0 between them."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    names = {"vla_robot": ("robot0", "10.77.0.1/24"), "vla_gpu": ("gpu0", "10.77.0.2/24")}
    try:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)  # of a run that was killed
            ip("netns", "add", name)
        with link or Cable():
            for name, (end, address) in names.items():
                ip("link", "set", end, "netns", name)
                ip("-n", name, "address", "add", address, "dev", end)
                for up in (end, "lo"):
                    ip("-n", name, "link", "set", up, "up")
                ip("-n", name, "route", "add", "224.0.0.0/4", "dev", end)
            robot = os.open("/run/netns/vla_robot", os.O_RDONLY)
            move_to(robot)
            os.close(robot)
            # Processes of one host would go on talking through shared memory.
            os.environ["FASTDDS_BUILTIN_TRANSPORTS"] = "UDPv4"
            yield
    finally:
        os.environ.pop("FASTDDS_BUILTIN_TRANSPORTS", None)
        move_to(here)
        os.close(here)
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
