# SPDX-License-Identifier: Apache-2.0
"""How closely an arm by pip follows a circle of 10 cm through arm_node, on the simulators of the vendors' protocols.

    python benchmarks/circle.py                  # franky-sim and trossen-arm-sim; the table of docs/arms.md
    python benchmarks/circle.py --tries 8

A turn takes 6 s, at up to 55 mm/s, with a turn of the hand, commanded at 5 Hz. Exit code 1 where no try of an arm is within
5 mm of the commands after its delay, or its delay is over 0.15 s. A pause of this machine makes both larger, never smaller.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "test" / "ros"))
LARGEST_ERROR, LONGEST_DELAY = 5.0, 0.15  # mm, s


def measure(arm: str, tries: int) -> list[dict]:
    from by_pip import ByPip
    from vendors import Fr3, WidowXAI

    folder = tempfile.TemporaryDirectory()
    with folder, Fr3() if arm == "franka" else WidowXAI() as robot, ByPip(arm, robot, Path(folder.name)) as by_pip:
        by_pip.home()
        return [by_pip.circle(goal) for goal in range(1, tries + 1)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=5)
    tries, failed, results = parser.parse_args().tries, 0, {}
    for arm in ("franka", "wxai"):
        runs = results[arm] = measure(arm, tries)
        best = min(runs, key=lambda run: run["largest error [mm]"])
        failed |= best["largest error [mm]"] > LARGEST_ERROR or best["delay [s]"] > LONGEST_DELAY
        for run in runs:
            print(arm, {name: round(value, 3) for name, value in run.items()}, "<- best" if run is best else "", flush=True)
    print(json.dumps(results))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
