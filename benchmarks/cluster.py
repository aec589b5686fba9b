# SPDX-License-Identifier: Apache-2.0
"""`vla-sd collect` and `vla-sd bench libero` on a Ray cluster of two nodes on this machine, one of them killed in the middle.

    python benchmarks/cluster.py --json benchmarks/results/cluster.json

All episodes of each here, then on the cluster, then with a node killed when a quarter has come: the files must be the same to the byte,
and all figures of the bench but times. Exit code 1 where they are not, or a file of `collect` holds no images. --steps shortens the
episodes.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vla_sd_ros import inputs
from vla_sd_ros.bench import results
from vla_sd_ros.cli import main as vla_sd

sys.path.insert(0, str(Path(__file__).parents[1] / "test" / "cluster"))

from nodes import NODE, files, two_nodes, when  # noqa: E402

TASKS = 10


def collect(folder: Path, each: int, steps: int, *more: str) -> int:
    """What the expert says where the shipped policy drives: of an episode that fails too, while one of the expert's own that is cut
    short would leave an empty file."""
    shorter = ["--steps", str(steps)] if steps else []
    wanted = ["--policy", "libero", "--output", str(folder), "--episodes-per-task", str(each), "--workers", "2"]
    return vla_sd(["collect", *wanted, *shorter, *more])


def bench(folder: Path, each: int, steps: int, *more: str) -> int:
    """The shipped policy from initial states that are held out."""
    wanted = ["--json", str(folder / "results.json"), "--trace", str(folder / "trace.jsonl")]
    shorter = ["--steps", str(steps)] if steps else []
    return vla_sd(["bench", "libero", "--episodes-per-task", str(each), "--workers", "2", *wanted, *shorter, *more])


def untimed(folder: Path) -> list:
    """Of each episode of a bench what was done, and the passes of each step."""
    found = []
    for line in (folder / "trace.jsonl").read_text().splitlines():
        episode = json.loads(line)
        found.append({**episode, "steps": [(step["path"], step["passes"]) for step in episode["steps"]]})
    return found


def landed(folder: Path) -> int:
    """How many episodes have come, of either."""
    return len([*folder.rglob("episode*.npz"), *folder.glob("results.json.parts/*.json")])


def with_images(folder: Path) -> int:
    """How many episodes of `collect` hold any."""
    return sum("images" in np.load(path).files for path in folder.rglob("episode*.npz"))


def run(work: Callable[..., int], folder: Path, *more: int | str) -> float:
    """Seconds that it took."""
    folder.mkdir(parents=True)
    begin = time.perf_counter()
    if code := work(folder, *more):
        raise SystemExit(code)
    return round(time.perf_counter() - begin, 1)


def compared(
    name: str, work: Callable[..., int], read: Callable[[Path], object], root: Path, cluster, size: tuple[int, int]
) -> dict:
    """One of the two, here, there, and with a node killed. size: episodes of a task, and their steps."""
    took = {"here": run(work, root / name / "here", *size)}
    took["cluster"] = run(work, root / name / "cluster", *size, "--cluster", cluster.address)
    third, killed = cluster.add_node(**NODE), root / name / "killed"
    came = []
    killing = when(
        lambda: landed(killed) >= TASKS * size[0] // 4,
        lambda: (came.append(landed(killed)), cluster.remove_node(third, allow_graceful=False)),
    )
    took["killed"] = run(work, killed, *size, "--cluster", cluster.address)
    killing.join(10.0)
    here = read(root / name / "here")
    same = {where: read(root / name / where) == here for where in ("cluster", "killed")}
    row = {"episodes": TASKS * size[0], "seconds": took, "same": same, "killed_after": came[0] if came else None}
    if work is collect:
        row["with_images"] = with_images(root / name / "here")
    print(f"{name}: {row}", flush=True)
    return row


def main() -> int:
    """Exit code 0: all the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes-per-task", type=inputs.count, default=4)
    parser.add_argument("--steps", type=inputs.whole(0, 10**6), default=0, help="of an episode, at most; 0: as the suite has it")
    parser.add_argument("--json", type=inputs.path)
    arguments = parser.parse_args()
    size = (arguments.episodes_per_task, arguments.steps)
    command = " ".join(["python", "benchmarks/cluster.py", *sys.argv[1:]])
    with tempfile.TemporaryDirectory() as folder, two_nodes() as (cluster, _):
        report = {
            "device": results.device_name(),
            "commit": results.commit(),
            "command": command,
            "nodes": 2,
            "collect": compared("collect", collect, files, Path(folder), cluster, size),
            "bench": compared("bench", bench, untimed, Path(folder), cluster, size),
        }
    if arguments.json:
        results.write(arguments.json, report)
    kept = [report[name] for name in ("collect", "bench")]
    pictured = report["collect"]["with_images"] == report["collect"]["episodes"]
    return 0 if pictured and all(all(row["same"].values()) and row["killed_after"] for row in kept) else 1


if __name__ == "__main__":
    sys.exit(main())
