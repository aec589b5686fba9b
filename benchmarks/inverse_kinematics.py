# SPDX-License-Identifier: Apache-2.0
"""Residual and time of the inverse kinematics over reachable poses of two arms.

    OMP_NUM_THREADS=1 python benchmarks/inverse_kinematics.py --json benchmarks/results/inverse_kinematics.json

The poses are those of postures drawn evenly from the joint ranges, 0.05 rad within the limits. `near`: the search starts
up to 0.2 rad per joint away, as from the measured posture, one attempt. `far`: always from the same posture, 150 attempts.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from pinocchio import log3

sys.path.insert(0, str(Path(__file__).parents[1] / "test" / "kinematics"))
from arms import PANDA, WX250S, Chain  # noqa: E402

LARGEST = 1e-4, np.radians(0.01)  # m, rad
STARTS = {"near": 1, "far": 150}  # attempts


def measure(chain: Chain, start: str, poses: int, seed: int = 0) -> dict:
    arm, rng = chain.kinematics(), np.random.default_rng(seed)
    lower, upper = arm.position_limits
    times, distances, angles = [], [], []
    for _ in range(poses):
        q = rng.uniform(lower + 0.05, upper - 0.05)
        position, rotation = arm.forward(q)
        near = np.array(chain.home) if start == "far" else q + rng.uniform(-0.2, 0.2, len(q))
        begin = time.perf_counter()
        solution = arm.inverse(position, rotation, near, STARTS[start])
        times.append(1e3 * (time.perf_counter() - begin))
        if solution is not None:
            reached, turned = arm.forward(solution)
            distances.append(np.linalg.norm(reached - position))
            angles.append(np.linalg.norm(log3(turned @ rotation.T)))
    good = np.sum((np.array(distances) < LARGEST[0]) & (np.array(angles) < LARGEST[1]))
    return {
        "arm": chain.name,
        "start": start,
        "poses": poses,
        "solved": round(float(good) / poses, 6),
        "largest_mm": round(1e3 * float(max(distances)), 6),
        "largest_deg": round(float(np.degrees(max(angles))), 6),
        **{f"{name}_ms": round(float(np.percentile(times, q)), 4) for name, q in (("median", 50), ("p95", 95), ("p99", 99))},
    }


def main() -> None:
    from vla_sd_ros.bench.results import commit, device_name

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--poses", type=int, default=10_000, help="of each arm")
    parser.add_argument("--json", type=Path, help="write the results here")
    arguments = parser.parse_args()
    rows = []
    for chain in (PANDA, WX250S):
        for start in STARTS:
            rows.append(row := measure(chain, start, arguments.poses))
            print(
                f"{row['arm']} {start}: {100 * row['solved']:.2f} % within {1e3 * LARGEST[0]:g} mm and 0.01 degrees, "
                f"largest {row['largest_mm']:.4f} mm, {row['largest_deg']:.5f} degrees; {row['median_ms']:.3f} ms median, "
                f"{row['p95_ms']:.3f} p95",
                flush=True,
            )
    if arguments.json:
        arguments.json.write_text(json.dumps({"device": device_name(), "commit": commit(), "results": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
