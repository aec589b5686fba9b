# SPDX-License-Identifier: Apache-2.0
"""Half an hour of goals, cancels and faults against one running system: does any node grow, leak or fall behind?

    python benchmarks/soak.py --minutes 30

Each round is a goal that is cancelled, two goals of which the second takes over, or a fault of docs/safety.md, at random.
After each, at rest, memory, threads, open files and children of every node are noted. Faults that end a node come in a
tenth of the time more, at the end, so that the memory of one process is seen for all of the time before; a node that such a
fault ended is started again, and noted anew. Exit code 1 where a node grew by more than 20 MB, has more threads, files or
children than it began with, published /diagnostics late, or where a fault did not end as it must.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import safety_page  # first: it makes what is imported from test/ and test/ros importable

# isort: split
import faults
from diagnostic_msgs.msg import DiagnosticArray
from system import System

from vla_sd_ros.inputs import CHECKPOINT

GROWTH = 20.0  # MB
LATE = 2.0  # s between two messages of one node on /diagnostics, which come once a second
CANCEL = 0.3  # s, for a request on its way, beside the time to brake
WARM = 60.0  # s, and WARM_ROUNDS, until a process has loaded and allocated what it needs
WARM_ROUNDS = 4
ALLOWED = {"threads": 0, "files": 2, "children": 0}  # files: a connection to a node that is being discovered


@dataclass(frozen=True)
class Sample:
    """Of one process at one time [s] since the start; memory, resident [MB]."""

    time: float
    memory: float
    threads: int
    files: int
    children: int


def sample(pid: int, now: float) -> Sample:
    folder = Path("/proc", str(pid))
    pages = int((folder / "statm").read_text().split()[1])
    children = sum(len((task / "children").read_text().split()) for task in (folder / "task").iterdir())
    return Sample(
        now,
        pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
        len(list((folder / "task").iterdir())),
        len(list((folder / "fd").iterdir())),
        children,
    )


def cancelled(system: System, chance: random.Random, slack: float) -> list[str]:
    system.reset()
    system.start_moving()
    time.sleep(chance.uniform(0.0, 4.0))
    began = time.monotonic()
    system.end_goal()
    rest = system.wait_for_rest(began) - began
    return [] if rest < system.braking() + CANCEL + slack else [f"at rest {rest:.2f} s after a cancel"]


def preempted(system: System, chance: random.Random) -> list[str]:
    system.reset()
    system.start_moving()
    time.sleep(chance.uniform(0.0, 1.0))
    system.start_moving()
    system.end_goal()
    return []


class Soak:
    """The rounds, and what was noted: samples by process, lateness of diagnostics by node, problems."""

    def __init__(self, system: System, seed: int):
        self._system, self._chance = system, random.Random(seed)
        self._diagnostics = system.ros.listen(DiagnosticArray, "/diagnostics")
        self._start = time.monotonic()
        self.samples: dict[tuple[str, int], list[Sample]] = {}
        self.latest = 0.0
        self.rounds: dict[str, int] = {}
        self.problems: list[str] = []

    def round(self, slack: float, kill: bool) -> None:
        """One round; kill: whether it may be a fault that ends a node."""
        fault = self._chance.choice([fault for fault in faults.FAULTS if kill or not fault.name.endswith("is killed")])
        name, disturbed = self._chance.choice([("cancel", ""), ("preemption", ""), (fault.name, fault.name.split()[0])])
        self._diagnostics.clear()
        alive = {process.process.pid for process in self._system.processes.values()}
        try:
            if name == "cancel":
                problems = cancelled(self._system, self._chance, slack)
            elif name == "preemption":
                problems = preempted(self._system, self._chance)
            else:
                problems = faults.run(self._system, fault, slack).problems
        except AssertionError as error:  # what was waited for in vain; the other rounds shall still be had
            problems = [str(error)]
        self.problems += [f"{name}: {problem}" for problem in problems]
        self.rounds[name] = self.rounds.get(name, 0) + 1
        self._system.restart_dead()
        time.sleep(1.0)
        self._note(alive, disturbed)

    def _note(self, alive: set[int], disturbed: str) -> None:
        for name, process in self._system.processes.items():
            pid = process.process.pid
            self.samples.setdefault((name, pid), []).append(sample(pid, time.monotonic() - self._start))
            if name != disturbed and pid in alive:
                times = [when for when, m in list(self._diagnostics) if m.status[0].name.endswith(f"/{name}")]
                gaps = [later - before for before, later in zip(times, times[1:])]
                self.latest = max([self.latest, *gaps])

    def rows(self) -> list[dict]:
        """For each process that lived long enough to judge: its node, what it began and ended with, what is wrong."""
        rows = []
        for (name, _), seen in self.samples.items():
            settled = [s for s in seen[WARM_ROUNDS:] if s.time - seen[0].time > WARM]
            if len(settled) < 2:
                continue
            first, last = settled[0], settled[-1]
            growth = last.memory - first.memory
            wrong = [f"{name} grew by {growth:.1f} MB"] if growth > GROWTH else []
            # The least of the last samples: a goal that has just ended may still have its thread.
            for what, allowed in ALLOWED.items():
                more = min(getattr(s, what) for s in settled[-3:]) - max(getattr(s, what) for s in settled[:3])
                wrong += [f"{name} has {more} more {what} than it began with"] if more > allowed else []
            rows.append(
                {
                    "node": name,
                    "minutes": (last.time - first.time) / 60.0,
                    "first": first.__dict__,
                    "last": last.__dict__,
                    "growth_mb": growth,
                    "problems": wrong,
                }
            )
        return rows


def text(report: dict) -> str:
    lines = ["| node | minutes | memory at first, at last [MB] | threads | open files | children |", "|---" * 6 + "|"]
    for row in report["processes"]:
        first, last = row["first"], row["last"]
        lines.append(
            f"| {row['node']} | {row['minutes']:.1f} | {first['memory']:.1f}, {last['memory']:.1f} | "
            + " | ".join(f"{first[what]}, {last[what]}" for what in ALLOWED)
            + " |"
        )
    rounds = sum(report["rounds"].values())
    count = len(report["problems"])
    wrong = f"{count or 'no'} problem{'s' if count > 1 else ''}."
    return "\n".join(
        [
            *lines,
            "",
            f"{report['minutes']:g} minutes, {rounds} rounds of {len(report['rounds'])} kinds; /diagnostics at most "
            f"{report['latest_diagnostics_s']:.2f} s after the one before; {wrong} Processes that a fault killed early are left "
            "out.",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0, help="of the order of the rounds")
    parser.add_argument("--checkpoint", default=CHECKPOINT, help="policy of vla_node")
    parser.add_argument("--robot", default="scene", choices=("scene", "arm"), help="arm: without physics")
    parser.add_argument("--slack", type=float, default=0.0, help="added to the bounds of the faults [s], on a busy machine")
    parser.add_argument("--dry-run", action="store_true", help="measure and print, write nothing")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, System(Path(folder), arguments.robot, arguments.checkpoint) as system:
        soak, end = Soak(system, arguments.seed), time.monotonic() + 60.0 * arguments.minutes
        while (late := time.monotonic() - end) < 6.0 * arguments.minutes:
            soak.round(arguments.slack, kill=late > 0.0)
        rows = soak.rows()
    problems = soak.problems + [problem for row in rows for problem in row["problems"]]
    if soak.latest > LATE + arguments.slack:
        problems.append(f"/diagnostics came {soak.latest:.2f} s after the one before")
    report = {
        "minutes": arguments.minutes,
        "rounds": soak.rounds,
        "latest_diagnostics_s": soak.latest,
        "processes": rows,
        "problems": problems,
    }
    print(text(report), *problems, sep="\n", flush=True)
    if not arguments.dry_run:
        safety_page.publish(
            "soak",
            text(report),
            {"command": f"python benchmarks/soak.py --minutes {arguments.minutes:g} --seed {arguments.seed}", **report},
        )
    return int(bool(problems))


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # rclpy's threads of closed contexts are not waited for
