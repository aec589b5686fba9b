# SPDX-License-Identifier: Apache-2.0
"""Two machines on one: two network namespaces and a link between them. Needs root."""

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator

CLONE_NEWNET = 0x40000000  # linux/sched.h


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def move_to(namespace: int) -> None:
    """This thread, and all that it starts from here on, into a network namespace, by its file descriptor."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


@contextlib.contextmanager
def two_machines() -> Iterator[None]:
    """This process beside the robot, a namespace vla_gpu for vla_node, and a link robot0 - gpu0 between them."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    names = {"vla_robot": ("robot0", "10.77.0.1/24"), "vla_gpu": ("gpu0", "10.77.0.2/24")}
    try:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)  # of a run that was killed
            ip("netns", "add", name)
        ip("link", "add", "robot0", "netns", "vla_robot", "type", "veth", "peer", "name", "gpu0", "netns", "vla_gpu")
        for name, (link, address) in names.items():
            ip("-n", name, "address", "add", address, "dev", link)
            for up in (link, "lo"):
                ip("-n", name, "link", "set", up, "up")
            ip("-n", name, "route", "add", "224.0.0.0/4", "dev", link)
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
