# SPDX-License-Identifier: Apache-2.0
"""Which images of a camera at 30 Hz in a process of its own reach vla_node, by the actions of a goal, for docs/arms.md.

    python benchmarks/images.py                      # needs root for the two network namespaces; without: fewer rows
    python benchmarks/images.py --only 640x480 --dry-run

Sizes, reliable and best-effort drivers, raw images and JPEG, the middleware's own buffers and those of
config/large_images.xml; between processes, and between two network namespaces. Exit code 1 where a goal lost actions though
the page's advice was followed: a reliable driver on the same machine, or compressed images, or config/large_images.xml.
"""

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import safety_page  # makes what is imported from test/ros importable
from camera import message  # noqa: E402
from filmed import BUFFERS, Filmed  # noqa: E402
from machines import two_machines
from processes import in_a_process  # noqa: E402

from vla_sd_ros import policy  # noqa: E402

STEPS, PERIOD = 50, 0.2  # of a goal [s]
SIZES = ("640x480", "1280x720")
PAGE = safety_page.ROOT / "docs" / "arms.md"


@dataclass(frozen=True)
class Group:
    """What one vla_node is measured with. buffers: of the camera's process; between namespaces of vla_node's too."""

    network: bool = False
    compressed: bool = False
    asked: str = "auto"
    drivers: tuple[str, ...] = ("reliable", "best_effort")
    buffers: bool = False


GROUPS = (
    Group(asked="best_effort", drivers=("reliable",)),
    Group(),
    Group(buffers=True),
    Group(compressed=True),
    Group(network=True),
    Group(network=True, buffers=True),
    Group(network=True, compressed=True),
)


def measure(group: Group, only: str) -> list[dict]:
    """One row for each size and driver."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = folder / "checkpoint"
        checkpoint.mkdir()
        policy.write_random(checkpoint)
        if not group.network:
            return _film(group, only, checkpoint, folder / "run", (), "LOCALHOST")
        settings = [f"{name}={value}" for name, value in BUFFERS.items()] if group.buffers else []
        with two_machines():
            return _film(group, only, checkpoint, folder / "run", ("ip", "netns", "exec", "vla_gpu", "env", *settings), "SUBNET")


def _film(group: Group, only: str, checkpoint: Path, folder: Path, wrap: tuple, discovery: str) -> list[dict]:
    vla = Filmed(
        checkpoint,
        folder,
        wrap,
        discovery,
        **{
            "control_period": PERIOD,
            "image.compressed": group.compressed,
            "image.qos": group.asked,
            "image.timeout": 1.0,
            "image.grace": 60.0,
        },
    )
    try:
        vla.process.wait_for_line("is active", 240.0)
        vla.client.wait_for_node(60.0)
        return [_row(vla, group, size, driver) for size in SIZES if only in size for driver in group.drivers]
    finally:
        vla.close()


def _row(vla: Filmed, group: Group, size: str, driver: str) -> dict:
    camera = vla.film("--size", size, "--qos", driver, *(["--compressed"] if group.compressed else []), buffers=group.buffers)
    vla.clear_records()
    vla.ros.wait_until(lambda: vla.sees(driver if group.asked == "auto" else group.asked, age=np.inf), "a subscription", 30.0)
    time.sleep(1.5)
    vla.clear_records()
    began = time.monotonic()
    vla.client.start("pick up the milk", time_limit=STEPS * PERIOD)
    result = vla.client.result(STEPS * PERIOD + 20.0)
    times = np.array([began, *(when for when, _ in vla.motions()), began + STEPS * PERIOD])
    if camera.terminate():
        raise RuntimeError(camera.log)
    row = {
        "size": size,
        "driver": driver,
        "asked": group.asked,
        "network": group.network,
        "compressed": group.compressed,
        "buffers": group.buffers,
        "bytes": len(message(*map(int, size.split("x")), group.compressed).data),
        "actions": result.steps,
        "of": STEPS,
        "longest_gap_s": float(np.diff(times).max()),
    }
    print(row, flush=True)
    return row


def advised(row: dict) -> bool:
    """Whether docs/arms.md promises all actions for such a camera."""
    reliable = row["driver"] == "reliable" and row["asked"] == "auto" and not row["network"]
    return row["buffers"] or row["compressed"] or reliable


def table(rows: list[dict]) -> str:
    lines = ["| camera | between | driver | vla_node asks for | buffers | actions | longest gap [s] |", "|---" * 7 + "|"]
    for row in rows:
        size = f"{row['size'].replace('x', ' x ')}, {'JPEG' if row['compressed'] else 'raw'} ({row['bytes'] / 1e3:.0f} kB)"
        asks = "best effort (`image.qos`)" if row["asked"] == "best_effort" else "what is offered"
        place = "namespaces" if row["network"] else "processes"
        lines.append(
            f"| {size} | {place} | {row['driver'].replace('_', ' ')} | {asks} | "
            f"{'large_images.xml' if row['buffers'] else 'default'} | {min(row['actions'], row['of'])} of {row['of']} | "
            f"{row['longest_gap_s']:.2f} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="sizes that contain this")
    parser.add_argument("--dry-run", action="store_true", help="measure and print, write nothing")
    arguments = parser.parse_args()
    rows = []
    for group in GROUPS:
        if group.network and os.geteuid():
            print("two network namespaces: skipped, they need root", flush=True)
            continue
        # A process for each: the middleware remembers the network interfaces that it saw first.
        rows += in_a_process(partial(measure, group, arguments.only), timeout=600.0)
    print(table(rows))
    if not arguments.dry_run:
        receive = int(Path("/proc/sys/net/core/rmem_max").read_text())
        text = f"{table(rows)}\n\nA random policy, 5 actions a second; net.core.rmem_max {receive / 1e6:.1f} MB."
        safety_page.publish("images", text, {"command": "python benchmarks/images.py", "rmem_max": receive, "rows": rows}, PAGE)
    return int(any(advised(row) and row["actions"] < 0.9 * row["of"] for row in rows))


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # rclpy's threads of closed contexts are not waited for
