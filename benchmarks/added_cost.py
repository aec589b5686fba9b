# SPDX-License-Identifier: Apache-2.0
"""What heisd's and kerv's parts cost in one step outside of the model: features of 192 numbers, 50,000 of one instruction.

    OMP_NUM_THREADS=1 python benchmarks/added_cost.py --json benchmarks/results/added_cost.json

Retrieval of five neighbours and their recombined tree, the Kalman filter over its window, the fused metric over its own, and
sequence-wise acceptance, on made-up vectors and the path of an arm that wanders.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from retrieval_query import DIRECTIONS, trajectories

from vla_sd_ros.bench import results
from vla_sd_ros.decoding.acceptance import SequenceWise
from vla_sd_ros.decoding.history import History
from vla_sd_ros.decoding.methods.heisd import metric, recombined
from vla_sd_ros.decoding.settings import Settings
from vla_sd_ros.decoding.sources import KalmanFilter
from vla_sd_ros.decoding.speculative import accept
from vla_sd_ros.kinematics.pose import Pose
from vla_sd_ros.policy.actions import ActionStatistics, encode
from vla_sd_ros.policy.draft import merge
from vla_sd_ros.retrieval import Entries, Origin, TrajectoryDatabase

SIZE, EPISODE = 192, 60  # length of a feature vector; steps


def database(vectors: np.ndarray, rng: np.random.Generator) -> TrajectoryDatabase:
    count = len(vectors)
    actions = rng.uniform(-0.9, 0.9, (count, 7)).astype(np.float32)
    entries = Entries(
        vectors, actions, np.zeros((count, 3, 7), np.float32), np.zeros(count, np.int32), np.arange(count, dtype=np.int32)
    )
    return TrajectoryDatabase({"wander": entries}, Origin("made up", "0"), ["episode"])


class Clock:
    """Milliseconds by part, a list of steps each."""

    def __init__(self):
        self.times: dict[str, list[float]] = {}

    def __call__(self, part: str, work, *arguments):
        start = time.perf_counter()
        found = work(*arguments)
        self.times.setdefault(part, []).append(1e3 * (time.perf_counter() - start))
        return found


def measure(count: int, steps: int) -> dict:
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((DIRECTIONS, SIZE), np.float32)
    known, asked = database(trajectories(count, SIZE, rng, basis), rng), trajectories(steps, SIZE, rng, basis)
    statistics = ActionStatistics(-np.ones(7), np.ones(7), np.array([True] * 6 + [False]))
    settings, clock, rule = Settings(kalman_observe="measured"), Clock(), SequenceWise()
    kalman, fused = KalmanFilter(settings), metric(settings)
    for step in range(steps):
        if step % EPISODE == 0:
            history, position = History(statistics), np.zeros(3)
        position = position + rng.normal(size=3) * 0.01
        history.see(Pose(position, np.eye(3)))
        neighbours = clock("retrieval", known.query, asked[step], "wander", settings.retrieval_candidates)
        tree = clock("tree", lambda: merge(recombined(encode(neighbours.actions))[:, :6]))
        clock("Kalman filter", kalman.predict, history)
        clock("fused metric", fused.update, position)
        clock("acceptance", accept, tree, rng.integers(0, 256, len(tree) + 1), 0, rule)
        history.record(rng.integers(0, 256, 7))
    parts = {part: float(np.median(times[EPISODE:])) for part, times in clock.times.items()}
    together = np.sum(list(clock.times.values()), axis=0)[EPISODE:]
    return {
        "vectors": count,
        "steps": len(together),
        "parts_median_ms": parts,
        "together_ms": {"median": float(np.median(together)), "p95": float(np.percentile(together, 95))},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vectors", type=int, default=50_000)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--json", type=Path, help="write the results here")
    arguments = parser.parse_args()
    report = measure(arguments.vectors, arguments.steps)
    for part, median in report["parts_median_ms"].items():
        print(f"{part}: {median:.3f} ms median")
    print(f"together: {report['together_ms']['median']:.3f} ms median, {report['together_ms']['p95']:.3f} p95")
    if arguments.json:
        results.write(arguments.json, {"device": results.device_name(), "commit": results.commit(), **report})


if __name__ == "__main__":
    main()
