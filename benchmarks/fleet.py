# SPDX-License-Identifier: Apache-2.0
"""A fleet on one machine: robots before two replicas of `vla-sd serve` behind config/haproxy.cfg, one of which is killed.

    python benchmarks/fleet.py                         # needs HAProxy; writes a table of docs/scale.md
    python benchmarks/fleet.py --robots 8 --seconds 10 --dry-run

Three of four robots are vla_node's own client over a websocket, the others send POST /act with a session of their own. Each
plays recorded episodes, one goal after the other, at the control rate; asked late is asked at once, as vla_node does. After the
first phase one replica gets SIGKILL. Exit code 1 where a request was lost that was not of that replica, or where one of its
websockets was not told.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a replica has one core

import json_numpy
import numpy as np
import safety_page

from vla_sd_ros.inputs import CHECKPOINT
from vla_sd_ros.recordings import Recordings
from vla_sd_ros.serving.remote import RemoteError, RemotePolicy

sys.path.insert(0, str(safety_page.ROOT / "test" / "serving"))

from served import Http, ServerProcess, proxied  # noqa: E402

PAGE = safety_page.ROOT / "docs" / "scale.md"
STEPS = 25  # of a goal
SETTLED = 5.0  # s before what is measured, in which goals begin and caches fill
HTTP_EVERY = 4  # of so many robots one speaks POST /act


@dataclass(frozen=True)
class Asked:
    """One request. begin: of time.monotonic [s]. step: of its goal. error: one sentence where no action came."""

    begin: float
    seconds: float
    step: int
    error: str = ""


@dataclass
class Robot:
    """One arm: goals from recorded images (instruction, images), one action a period."""

    number: int
    port: int
    period: float
    episodes: Sequence[tuple[str, list[np.ndarray]]]
    asked: list[Asked] = field(default_factory=list)
    goals: int = 0
    replica: str = ""  # that answered last, as the proxy names it
    runs: bool = False  # a goal of which a step has been answered, and not the last one

    def __post_init__(self) -> None:
        self.speaks_act = self.number % HTTP_EVERY == 0
        self._http: Http | None = None
        self._remote: RemotePolicy | None = None

    def live(self, stop: threading.Event) -> None:
        """Until stop is set. The robots are out of step with each other."""
        due = time.monotonic() + self.period * np.random.default_rng(self.number).random()
        for turn in range(self.number, sys.maxsize):
            instruction, images = self.episodes[turn % len(self.episodes)]
            ask = self._begin(instruction)
            for step in range(self.number % STEPS if turn == self.number else 0, STEPS):  # goals are out of step, too
                if stop.wait(max(0.0, due - time.monotonic())):
                    return
                begin = time.monotonic()
                error = ask(images[step % len(images)])
                self.asked.append(Asked(begin, time.monotonic() - begin, step, error))
                due = max(due + self.period, time.monotonic())
                self.runs = not error and step + 1 < STEPS
                if error:
                    break
            else:
                self.goals += 1

    def _begin(self, instruction: str) -> Callable[[np.ndarray], str]:
        """What asks for the actions of one goal; it returns what went wrong."""
        return self._act(instruction) if self.speaks_act else self._websocket(instruction)

    def _websocket(self, instruction: str) -> Callable[[np.ndarray], str]:
        progress = None

        def ask(image: np.ndarray) -> str:
            nonlocal progress
            try:
                self._remote = self._remote or RemotePolicy(f"ws://127.0.0.1:{self.port}", 10.0)
                progress = progress or self._remote.begin()
                progress.record(self._remote.decide(image, instruction, progress).bins)
                self.replica = self._remote._connection.response.headers["X-Replica"]
                return ""
            except RemoteError as error:
                return str(error)

        return ask

    def _act(self, instruction: str) -> Callable[[np.ndarray], str]:
        def ask(image: np.ndarray) -> str:
            try:
                self._http = self._http or Http(self.port, {"X-Session-Id": f"robot{self.number}"})
                status, text = self._http.act(json_numpy.dumps({"image": image, "instruction": instruction}))
                if status != 200:
                    return f"HTTP {status} {text[:100]}"
                self.replica = self._http.told["X-Replica"]
                return "" if np.isfinite(json_numpy.loads(text)).all() else "the action is not finite"
            except OSError as error:
                self._http = None
                return f"{type(error).__name__}: {error}"

        return ask


def episodes(folder: Path | None) -> list[tuple[str, list[np.ndarray]]]:
    """Recorded ones of at least STEPS images; without a folder of them the expert makes some."""
    with tempfile.TemporaryDirectory() as made:
        if folder is None:
            collect = ["collect", "--tasks", *"0123", "--episodes-per-task", "1", "--workers", "2", "--output", made]
            subprocess.run([sys.executable, "-m", "vla_sd_ros.cli", *collect], check=True, stdout=subprocess.DEVNULL)
        found = [(episode.instruction, list(episode.images)) for episode in Recordings([folder or Path(made)])]
    return [(instruction, images) for instruction, images in found if len(images) >= STEPS and all(i is not None for i in images)]


def row(requests: list[Asked], period: float) -> dict:
    """What became of some requests."""
    times = 1e3 * np.array([one.seconds for one in requests if not one.error])
    percentiles = dict(zip(("p50_ms", "p95_ms", "p99_ms", "max_ms"), np.percentile(times, [50, 95, 99, 100]).round(1).tolist()))
    return {
        "requests": len(requests),
        "lost": sum(bool(one.error) for one in requests),
        **percentiles,
        "later_than_a_period": int((times > 1e3 * period).sum()),
    }


def measure(arguments: argparse.Namespace) -> dict:
    """Both phases."""
    seen, period = episodes(arguments.source), 1.0 / arguments.rate
    with tempfile.TemporaryDirectory() as name:
        folder, options = Path(name), ["--checkpoint", arguments.checkpoint, "--decoder", arguments.decoder]
        options += ["--settings", str(safety_page.ROOT / "config" / "sim.yaml")]  # the demo's
        options += ["--threads", "1", "--batch", str(arguments.batch), "--port", "0"]
        replicas = [ServerProcess(options, folder / f"log{number}") for number in (1, 2)]
        try:
            with proxied(replicas, folder) as port:
                robots = [Robot(number, port, period, seen) for number in range(arguments.robots)]
                return _phases(robots, replicas, arguments.seconds, period)
        finally:
            for replica in replicas:
                replica.kill()


def _phases(robots: list[Robot], replicas: list[ServerProcess], seconds: float, period: float) -> dict:
    stop = threading.Event()
    threads = [threading.Thread(target=robot.live, args=(stop,)) for robot in robots]
    try:
        for thread in threads:
            thread.start()
        time.sleep(SETTLED)
        began = time.monotonic()
        time.sleep(seconds)
        there = [robot for robot in robots if robot.replica == "replica1" and robot.runs]
        killed = time.monotonic()
        replicas[0].process.kill()
        time.sleep(seconds)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    return report(robots, there, period, (began, killed, killed + seconds))


def report(robots: list[Robot], there: list[Robot], period: float, times: tuple[float, float, float]) -> dict:
    """Both phases in figures. there: the robots whose goals ran on the replica that was killed. times: begin, kill, end [s]."""
    began, killed, end = times
    protocols = {"websocket": [robot for robot in robots if not robot.speaks_act]}
    protocols["POST /act"] = [robot for robot in robots if robot.speaks_act]
    others = [robot for robot in robots if robot not in there]
    lost = {
        name: [one for robot in those if robot in there for one in answered([robot], killed, end) if one.error]
        for name, those in protocols.items()
    }
    told = [one for those in lost.values() for one in those]
    return {
        "goals_ended": sum(robot.goals for robot in robots),
        "two replicas": {name: row(answered(those, began, killed), period) for name, those in protocols.items()},
        "the others": row(answered(others, killed, end), period),
        "robots there": row(answered(there, killed, end), period),
        "goals_there": {name: sum(robot in there for robot in those) for name, those in protocols.items()},
        "goals_lost": {name: len(those) for name, those in lost.items()},
        "told_after_s": round(max((one.begin + one.seconds - killed for one in told), default=0.0), 2),
        "told": sorted({one.error.replace(f":{robots[0].port}", "") for one in told}),
    }


def answered(robots: Iterable[Robot], first: float, last: float) -> list[Asked]:
    """Requests that got an answer, or an error, between two times [s]."""
    return [one for robot in robots for one in robot.asked if first <= one.begin + one.seconds < last]


def table(made: dict) -> str:
    """As Markdown."""
    lines = ["| | requests | lost | p50 [ms] | p95 [ms] | p99 [ms] | max [ms] | later than a period |", "|---" * 8 + "|"]
    rows = {f"two replicas, {name}": values for name, values in made["two replicas"].items()} | {
        "one killed, robots elsewhere": made["the others"],
        "one killed, robots there": made["robots there"],
    }
    for name, values in rows.items():
        lines.append(f"| {name} | " + " | ".join(map(str, values.values())) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--robots", type=int, default=32)
    parser.add_argument("--rate", type=float, default=2.0, help="actions a second of each")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each of the two phases")
    parser.add_argument("--decoder", default="fused")
    parser.add_argument("--batch", type=int, default=4, help="of vla-sd serve")
    parser.add_argument("--checkpoint", default=CHECKPOINT)
    parser.add_argument("--source", type=Path, help="folder of recordings; default: four that the scripted expert makes")
    parser.add_argument("--dry-run", action="store_true", help="measure and print, write nothing")
    arguments = parser.parse_args()
    if not shutil.which("haproxy"):
        parser.error("HAProxy is not installed: apt-get install haproxy")
    made = measure(arguments)
    there, lost = made["goals_there"], made["goals_lost"]
    text = (
        f"{table(made)}\n\n{arguments.robots} robots, {arguments.rate:g} actions a second each, goals of {STEPS} steps, decoder "
        f"`{arguments.decoder}` with the settings of `config/sim.yaml`, `--batch {arguments.batch}`; the robots, the proxy and both "
        f"replicas share the machine. {there['websocket']} goals over websockets and {there['POST /act']} over `/act` ran on the "
        f"replica that was killed: {lost['websocket']} and {lost['POST /act']} ended, told within {made['told_after_s']:g} s."
    )
    print(text, *made["told"], sep="\n")
    if not arguments.dry_run:
        settings = {name: getattr(arguments, name) for name in ("robots", "rate", "seconds", "decoder", "batch", "checkpoint")}
        safety_page.publish("fleet", text, {"command": "python benchmarks/fleet.py", **settings, **made}, PAGE)
    unhurt = [*made["two replicas"].values(), made["the others"]]
    return int(any(values["lost"] for values in unhurt) or lost["websocket"] != there["websocket"])


if __name__ == "__main__":
    sys.exit(main())
