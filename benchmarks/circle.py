# SPDX-License-Identifier: Apache-2.0
"""How closely an arm by pip follows a circle of 10 cm through arm_node, on the simulators of the vendors' protocols.

    python benchmarks/circle.py                  # franky-sim and trossen-arm-sim; the table of docs/arms.md
    python benchmarks/circle.py --strict         # eight goals before franka-sim too, which stops what the FCI would stop

A turn takes 6 s, at up to 55 mm/s, with a turn of the hand, commanded at 5 Hz. Exit code 1 where no try of an arm is within
5 mm of the commands after its delay with a delay of 0.15 s at most, or a goal before franka-sim ends in a reflex. The machine
must have nothing else to do: where something waits for a processor, that is said and nothing is written. --strict needs
FRANKA_SIM_PYTHON, see test/ros/vendors.py.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from safety_page import ROOT, publish

GOALS, STEPS, STEP = 8, 8, 0.01  # before the strict simulator: goals to and fro, commands of each, m each
SIMULATORS = {"franka": "FR3, franky-sim", "wxai": "WidowX AI, trossen-arm-sim"}
COLUMNS = ("delay [s]", "largest error [mm]", "mean error [mm]", "error at rest [mm]")


def measure(arm: str, tries: int) -> list[dict]:
    """What each circle of an arm was."""
    from by_pip import ByPip
    from vendors import Fr3, WidowXAI

    folder = tempfile.TemporaryDirectory()
    with folder, Fr3() if arm == "franka" else WidowXAI() as robot, ByPip(arm, robot, Path(folder.name)) as by_pip:
        by_pip.home()
        return [by_pip.circle(goal) for goal in range(1, tries + 1)]


def strict() -> list[str]:
    """Of each goal before the strict simulator what went wrong; empty where it moved the arm without a fault."""
    import numpy as np
    from by_pip import PERIOD, ByPip
    from vendors import StrictFr3

    said, folder = [], tempfile.TemporaryDirectory()
    with folder, StrictFr3(Path(folder.name)) as robot, ByPip("franka", robot, Path(folder.name)) as by_pip:
        for goal in range(1, GOALS + 1):
            start = by_pip.pose(by_pip.states[-1][1])
            for step in range(STEPS):
                by_pip.send(goal, step, (0.0, STEP if goal % 2 else -STEP, 0.0))
                time.sleep(PERIOD)
            time.sleep(1.0)
            way = np.linalg.norm(by_pip.pose(by_pip.states[-1][1]).position - start.position)
            fault = by_pip.faults[-1][1].data
            said.append(fault or ("" if way > 0.75 * STEPS * STEP else f"the arm moved {1e3 * way:.0f} mm only"))
            print(f"strict, goal {goal}: {said[-1] or f'{1e3 * way:.0f} mm'}", flush=True)
            if fault:
                by_pip.call("recover")
    return said


def table(results: dict[str, list[dict]], best: dict[str, dict], goals: list[str] | None) -> str:
    """For docs/arms.md."""
    lines = ["| arm, simulator | circles | " + " | ".join(COLUMNS) + " |", "|" + "---|" * (len(COLUMNS) + 2)]
    for arm, runs in results.items():
        values = " | ".join(f"{best[arm][name]:.{2 if '[s]' in name else 1}f}" for name in COLUMNS)
        lines.append(f"| {SIMULATORS[arm]} | {len(runs)} | {values} |")
    text = "\n".join(lines) + "\n\nThe closest circle of each."
    if goals is not None:
        text += f" Before franka-sim {goals.count('')} of {len(goals)} goals ended without a reflex."
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=5, help="circles of each arm (default: %(default)s)")
    parser.add_argument("--strict", action="store_true", help="eight goals before franka-sim too")
    arguments = parser.parse_args()
    if arguments.strict and not os.environ.get("FRANKA_SIM_PYTHON"):
        parser.error("--strict: FRANKA_SIM_PYTHON names no environment with franka-sim; see StrictFr3 in test/ros/vendors.py")
    from by_pip import BUSY, within_promise

    results, best = {}, {}
    for arm in SIMULATORS:
        runs = results[arm] = measure(arm, arguments.tries)
        best[arm] = min(runs, key=lambda run: (not within_promise(run), run["largest error [mm]"]))
        for run in runs:
            print(arm, {name: round(value, 3) for name, value in run.items()}, "<- best" if run is best[arm] else "", flush=True)
    goals = strict() if arguments.strict else None
    failed = not all(map(within_promise, best.values())) or any(goals or ())
    if max(run["busy"] for run in best.values()) > BUSY:
        print("This machine has other things to do, so nothing is written.")
    else:
        command = "python benchmarks/circle.py" + " --strict" * arguments.strict
        report = {"command": command, "circles": results, "strict": goals}
        publish("circle", table(results, best, goals), report, ROOT / "docs" / "arms.md")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
