# SPDX-License-Identifier: Apache-2.0
"""Wi-Fi between two network devices: each frame is lost by chance or comes late. Needs root.

    python benchmarks/air.py robot0 gpu0 <<< '{"loss": 0.05, "delay": 0.05}'

Makes two TAP devices and carries Ethernet frames from one to the other and back, until its input ends; each line of the input
sets loss (0 .. 1) and delay [s], of each direction. What `tc netem` does in a kernel that has it, and the same everywhere.
"""

import fcntl
import json
import os
import queue
import random
import struct
import sys
import threading
import time

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000  # linux/if_tun.h
FRAME = 2048  # bytes, of which a frame has fewer


class Air:
    """What happens to a frame. carried, lost: how many, in both directions."""

    loss, delay, carried, lost = 0.0, 0.0, 0, 0


def tap(name: str) -> int:
    """The file descriptor of a new device, which lives as long as it is open."""
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return device


def carry(source: int, sink: int, air: Air) -> None:
    """Frames of one direction, for ever; none overtakes another."""
    flying: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

    def land() -> None:
        while True:
            due, frame = flying.get()
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                os.write(sink, frame)
            except OSError:
                air.lost += 1  # the device is down

    threading.Thread(target=land, daemon=True).start()
    while True:
        try:
            frame = os.read(source, FRAME)
        except OSError:  # down, or not yet up
            time.sleep(0.01)
            continue
        if random.random() < air.loss:
            air.lost += 1
        else:
            air.carried += 1
            flying.put((time.monotonic() + air.delay, frame))


def main() -> None:
    """Says `ready` when the devices are there, and at the end what became of the frames."""
    air, devices = Air(), [tap(name) for name in sys.argv[1:3]]
    for source, sink in (devices, devices[::-1]):
        threading.Thread(target=carry, args=(source, sink, air), daemon=True).start()
    print("ready", flush=True)
    for line in sys.stdin:
        vars(air).update(json.loads(line))
    print(json.dumps({"carried": air.carried, "lost": air.lost}), flush=True)


if __name__ == "__main__":
    main()
