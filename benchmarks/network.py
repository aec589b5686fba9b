# SPDX-License-Identifier: Apache-2.0
"""Goals over a network that loses: arm_node and the simulator on one machine, vla_node on another, Wi-Fi between them.

    python benchmarks/network.py                     # needs root; writes a table of docs/safety.md
    python benchmarks/network.py --only outage --dry-run

The machines are two network namespaces, the Wi-Fi is air.py: the images, joint states and diagnostics of the robot cross it, and
the commands come back over it. Exit code 1 where a row is not what docs/network.md promises.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import safety_page  # first: it makes what is imported from test/ and test/ros importable

# isort: split
import faults  # noqa: E402
from faults import GOES_ON, HOLD, Arm, Fault, Goal  # noqa: E402
from filmed import profiles  # noqa: E402
from machines import WiFi, two_machines
from processes import BEST_EFFORT, discovery_server, in_a_process  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402
from system import System  # noqa: E402

from vla_sd_ros.inputs import CHECKPOINT  # noqa: E402

ADDRESS = "10.77.0.1"  # of the robot's machine (machines.py), where the discovery server runs
WATCH = 12.0  # s, for which a goal that must go on is watched
LOSS, DELAY = 0.05, 0.05  # of frames; s, each way


@dataclass(frozen=True)
class Setup:
    """How the two machines talk. advised: with config/wifi.xml and a discovery server. jpeg: compressed images cross the air."""

    advised: bool
    jpeg: bool

    @property
    def name(self) -> str:
        """For the table."""
        return f"{'JPEG' if self.jpeg else 'raw'}, {'wifi.xml, discovery server' if self.advised else 'as installed'}"


SETUPS = (Setup(False, False), Setup(False, True), Setup(True, False), Setup(True, True))


class Server:
    """The discovery server, a process."""

    def __init__(self):
        command = [discovery_server(), "-i", "0", "-l", ADDRESS, "-p", "11811"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def variables(values: dict[str, str]) -> Iterator[None]:
    """In the environment of this process, and so of those that it starts."""
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]


class Jpeg:
    """The camera's images as files, beside the raw ones, which nobody asks for."""

    def __init__(self, system: System):
        self._publisher = system.ros.node.create_publisher(CompressedImage, "image/compressed", 1)
        system.ros.node.create_subscription(Image, "raw/image", self._on_image, BEST_EFFORT)

    def _on_image(self, message: Image) -> None:
        import cv2

        pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
        data = cv2.imencode(".jpg", pixels[..., ::-1])[1].tobytes()
        self._publisher.publish(CompressedImage(header=message.header, format="jpeg", data=data))


def outage(air: WiFi, seconds: float = 0.0) -> Callable[[System], None]:
    """Everything is lost; for so long, or until it is healed."""

    def inject(system: System) -> None:
        air.set(1.0, DELAY)
        if seconds:
            time.sleep(seconds)
            air.set(LOSS, DELAY)

    return inject


def chosen(setup: Setup, air: WiFi, server: Server | None) -> list[Fault]:
    """What is tried: the weather with each setup, all the rest with the advised one."""

    def weather(loss: float, delay: float) -> Callable[[System], None]:
        return lambda system: air.set(loss, delay)

    good = weather(0.0, 0.0)
    bad = {"heal": good, "watch": WATCH, "bound": "", "status": ()}
    lost = f"{100 * LOSS:g} % lost, {1e3 * DELAY:g} ms each way"
    on, stale = (GOES_ON, Goal.NONE), (Goal.IMAGE_STALE, Arm.COMMAND_STALE, Goal.ARM_FAULT, Goal.JOINT_STATES_STALE)
    made = [
        Fault("good Wi-Fi", "nothing lost, no delay", good, result=on, **bad),
        Fault("lossy Wi-Fi", lost, weather(LOSS, DELAY), result=on if setup.advised and setup.jpeg else (*on, *stale), **bad),
    ]
    if not (setup.advised and setup.jpeg):
        return made
    hold = {"bound": f"command_timeout + {HOLD}", "status": (Arm.COMMAND_STALE,), "heal": good}
    return [
        *made,
        Fault("worse Wi-Fi", "15 % lost, 150 ms each way", weather(0.15, 0.15), result=(*on, *stale), **bad),
        Fault("Wi-Fi pauses", f"nothing comes through for 0.3 s; {lost} before and after", outage(air, 0.3), result=on, **bad),
        Fault("Wi-Fi roams", f"nothing comes through for 1 s; {lost} after", outage(air, 1.0), result=on, **hold),
        Fault("Wi-Fi ends", "nothing comes through for 4 s, then all", outage(air), result=stale, heal_after=4.0, **hold),
        Fault("the discovery server is killed", "SIGKILL", lambda _: server.kill(), result=on, **bad),
    ]


def measure(setup: Setup, only: str, checkpoint: str) -> list[dict]:
    """One row for each fault, of a System that is started for them."""
    air, rows = WiFi(), []
    advice = {"ROS_DISCOVERY_SERVER": f"{ADDRESS}:11811", "ROS_SUPER_CLIENT": "TRUE", **profiles("wifi.xml")}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(two_machines(air))
        server = None
        if setup.advised:
            stack.enter_context(variables(advice))
            server = Server()
            stack.callback(server.kill)
        system = System(
            folder,
            "scene",
            checkpoint=checkpoint,
            vla={"image.compressed": setup.jpeg},
            wrap={"vla_node": ["ip", "netns", "exec", "vla_gpu"]},
            discovery="SUBNET",
        )
        if setup.jpeg:
            Jpeg(system)
        stack.enter_context(system)
        for fault in chosen(setup, air, server):
            if only in fault.name:
                rows.append(attempt(system, setup, fault))
    print(f"{setup.name}: {air.frames}", flush=True)
    return rows


def attempt(system: System, setup: Setup, fault: Fault) -> dict:
    """One row. period: of the actions that vla_node sent from then on, mean; pause: the longest [s]."""
    begin = 0.0

    def inject(system: System) -> None:
        nonlocal begin
        begin = time.monotonic()
        fault.inject(system)

    try:
        trial = faults.run(system, replace(fault, inject=inject))
    except (AssertionError, TimeoutError, ConnectionError) as error:
        trial = faults.failed(system, fault, error)
    end = begin + (WATCH if np.isnan(trial.ended) else trial.ended)
    acted = [when for when, command in list(system.commands) if begin < when < end and not command.hold]
    gaps = np.diff([begin, *acted, end])
    row = {"network": fault.name, "how": fault.how, "setup": setup.name, **asdict(trial), "bound_terms": fault.bound}
    row |= {"actions_per_s": len(acted) / max(end - begin, 1e-3), "pause": float(gaps.max())}
    print(f"{setup.name}: {fault.name}: {faults.code_name(trial.result)} {'; '.join(trial.problems) or 'ok'}", flush=True)
    return row


def table(rows: list[dict]) -> str:
    """As Markdown."""
    lines = [
        "| network | what it does | images, middleware | actions a second | longest pause [s] | rest after, bound [s] "
        "| largest jump, limit [mm] | final state | in `~/status` | result of the goal | after [s] |",
        "|---" * 11 + "|",
    ]
    for row in rows:
        rest = f"{row['rest']:.2f}, {row['bound']:.2f}" if row["bound_terms"] else "-"
        after = "-" if row["result"] == GOES_ON else f"{row['ended']:.1f}"
        result = "success" if row["result"] == Goal.NONE else faults.code_name(row["result"])
        lines.append(
            f"| {row['network']} | {row['how']} | {row['setup']} | {row['actions_per_s']:.1f} | {row['pause']:.2f} | {rest} | "
            f"{row['jump']:.1f}, {row['jump_bound']:.1f} | {row['state']} | "
            f"{', '.join(map(faults.code_name, row['codes'])) or '-'} | {result} | {after} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--setups", type=int, nargs="+", default=range(len(SETUPS)), help="numbers, from 0")
    parser.add_argument("--checkpoint", default=CHECKPOINT, help="policy of vla_node")
    parser.add_argument("--dry-run", action="store_true", help="measure and print, write nothing")
    arguments = parser.parse_args()
    if os.geteuid():
        parser.error("network namespaces need root")
    rows = []
    for setup in (SETUPS[number] for number in arguments.setups):
        # A process for each: the middleware remembers the network interfaces that it saw first.
        rows += in_a_process(partial(measure, setup, arguments.only, arguments.checkpoint), timeout=900.0)
    print(table(rows))
    if not arguments.dry_run:
        safety_page.publish("network", table(rows), {"command": "python benchmarks/network.py", "rows": rows})
    return int(any(row["problems"] for row in rows))


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # rclpy's threads of closed contexts are not waited for
