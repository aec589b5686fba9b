# SPDX-License-Identifier: Apache-2.0
"""Time of one query of the trajectory database, exact and through the graph, and the graph's recall.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/retrieval_query.py --json results.json

The vectors are made up like those of episodes: 30 steps that wander from a start of their own, in 16 directions, with noise
in all.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from vla_sd_ros.retrieval.index import EF_SEARCH, EXACT_LIMIT, Graph, exact

STEPS = 30  # of an episode
DIRECTIONS = 16


def trajectories(count: int, size: int, rng: np.random.Generator, basis: np.ndarray) -> np.ndarray:
    """Unit vectors (count, size) float32."""
    episodes = -(-count // STEPS)
    wander = rng.normal(size=(episodes, 1, DIRECTIONS)) + 0.3 * rng.normal(size=(episodes, STEPS, DIRECTIONS)).cumsum(1)
    vectors = wander.reshape(-1, DIRECTIONS)[:count].astype(np.float32) @ basis
    vectors += 0.3 * rng.standard_normal((count, size), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def timed(search, queries: np.ndarray) -> tuple[list, dict]:
    """What search gives for each query, and its median and p95 [ms]."""
    for query in queries[:20]:
        search(query)
    found, times = [], []
    for query in queries:
        start = time.perf_counter()
        found.append(search(query))
        times.append(1e3 * (time.perf_counter() - start))
    median, p95 = np.percentile(times, [50, 95])
    return found, {"median_ms": round(float(median), 4), "p95_ms": round(float(p95), 4)}


def measure(count: int, size: int, k: int, queries: int) -> dict:
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((DIRECTIONS, size), np.float32)
    vectors, asked = trajectories(count, size, rng, basis), trajectories(queries, size, rng, basis)
    true, exact_times = timed(lambda query: exact(vectors, query, k), asked)
    start = time.perf_counter()
    graph = Graph.build(vectors)
    built = time.perf_counter() - start
    found, graph_times = timed(lambda query: graph.search(query, k), asked)
    recall = np.mean([len(set(a.tolist()) & set(b.tolist())) / k for a, b in zip(true, found)])
    return {
        "vectors": count,
        "size": size,
        "k": k,
        "used": "graph" if count * size > EXACT_LIMIT else "exact",
        "exact": exact_times,
        "graph": graph_times | {"recall": round(float(recall), 4), "build_s": round(built, 1)},
    }


def main() -> None:
    from vla_sd_ros.bench.results import commit, device_name

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vectors", type=int, nargs="*", default=[5000, 50000])
    parser.add_argument("--sizes", type=int, nargs="*", default=[192, 2176])
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("-k", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the results here")
    arguments = parser.parse_args()
    rows = []
    for size in arguments.sizes:
        for count in arguments.vectors:
            row = measure(count, size, arguments.k, arguments.queries)
            rows.append(row)
            print(
                f"{count} vectors of {size}: exact {row['exact']['median_ms']:.3f} ms median, "
                f"{row['exact']['p95_ms']:.3f} p95; graph {row['graph']['median_ms']:.3f}, {row['graph']['p95_ms']:.3f}, "
                f"recall {row['graph']['recall']:.3f}, built in {row['graph']['build_s']:.0f} s; used: {row['used']}",
                flush=True,
            )
    if arguments.json:
        report = {"device": device_name(), "commit": commit(), "ef_search": EF_SEARCH, "results": rows}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
