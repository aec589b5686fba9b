# SPDX-License-Identifier: Apache-2.0
"""`vla-sd bench libero`: closed-loop success and latency of decoders on held-out initial states."""
import argparse
import json
import math
import multiprocessing
import platform
import shlex
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla_sd_ros.sim.episode import HELD_OUT_STATES
from vla_sd_ros.sim.scene import SUITES, TASKS_PER_SUITE


@dataclass(frozen=True)
class Episode:
    """What one closed-loop episode left: latencies [ms] and counts hold one entry a step."""

    task: int
    decoder: str
    success: bool
    total_ms: list[float]
    floor_ms: list[float]
    forward_passes: list[int]
    accepted: list[int]
    paths: list[str]


@dataclass(frozen=True)
class Assignment:
    """Episodes of one task for one worker. other_sentence: use the scene's second sentence, not the task's own."""

    checkpoint: str
    decoders: list[str]
    suite: str
    task: int
    states: list[int]
    seed: int
    other_sentence: bool = False
    delay: float = 0.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=["libero"])
    parser.add_argument("--suite", choices=SUITES, default="libero_object")
    parser.add_argument("--checkpoint", default="libero", help="directory, or name of a shipped one")
    parser.add_argument("--decoder", default="autoregressive", help="one or more names, separated by commas")
    parser.add_argument("--tasks", type=int, nargs="*", default=list(range(TASKS_PER_SUITE)))
    parser.add_argument("--episodes-per-task", type=int, default=10, help=f"at most {len(HELD_OUT_STATES)}")
    parser.add_argument("--seed", type=int, default=0, help="0: initial states as published; else objects shift by 2 cm")
    parser.add_argument("--other-sentence", action="store_true", help="ask for the scene's other object (libero_spatial)")
    parser.add_argument("--delay", type=float, default=0.0, help="from image to start of motion [s], of simulated time")
    parser.add_argument("--workers", type=int, default=1, help="more than one is faster, but latencies suffer")
    parser.add_argument("--json", type=Path, help="write the results here")


def run(arguments: argparse.Namespace) -> int:
    states = list(HELD_OUT_STATES)[: arguments.episodes_per_task]
    decoders = arguments.decoder.split(",")
    assignments = [
        Assignment(
            arguments.checkpoint, decoders, arguments.suite, task, states, arguments.seed, arguments.other_sentence,
            arguments.delay,
        )
        for task in arguments.tasks
    ]
    results = summarise(_run_all(assignments, arguments.workers), decoders)
    report = {
        "suite": arguments.suite, "checkpoint": arguments.checkpoint, "device": device_name(), "commit": commit(),
        "command": "vla-sd " + shlex.join(sys.argv[1:]), "seed": arguments.seed,
        "episodes": len(states) * len(arguments.tasks), **results,
    }
    for name, row in report["decoders"].items():
        low, high = row["ci95"]
        print(
            f"{name}: success {row['success_rate']:.1%} ({low:.1%} to {high:.1%}), latency "
            f"{row['latency_ms']['median']:.1f} ms median, {row['latency_ms']['p95']:.1f} ms p95, "
            f"{row['forward_passes_per_action']:.2f} forward passes per action"
        )
        print("  per task: " + ", ".join(f"{task}: {rate:.0%}" for task, rate in row["per_task"].items()))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


def success_on(checkpoint: Path, suite: str, states: list[int], workers: int = 2) -> tuple[int, int]:
    """Successes and episodes of autoregressive decoding over all tasks of a suite from these initial states."""
    assignments = [Assignment(str(checkpoint), ["autoregressive"], suite, t, states, 0) for t in range(TASKS_PER_SUITE)]
    episodes = _run_all(assignments, workers)
    return sum(episode.success for episode in episodes), len(episodes)


def _run_all(assignments: list[Assignment], workers: int) -> list[Episode]:
    from tqdm import tqdm

    episodes = []
    with multiprocessing.get_context("spawn").Pool(workers, maxtasksperchild=2) as pool:
        total = sum(len(a.states) * len(a.decoders) for a in assignments)
        with tqdm(total=total, unit="episode", desc=assignments[0].suite) as bar:
            for done in pool.imap_unordered(run_assignment, assignments):
                episodes += done
                bar.update(len(done))
                bar.set_postfix(succeeded=f"{sum(e.success for e in episodes)}/{len(episodes)}")
    return episodes


def run_assignment(assignment: Assignment) -> list[Episode]:
    """All episodes of an assignment, every decoder on each initial state in turn."""
    from vla_sd_ros import decoding, policy
    from vla_sd_ros.sim.episode import run_episode
    from vla_sd_ros.sim.expert import Expert, jobs_with_sentences
    from vla_sd_ros.sim.scene import LiberoScene

    vla = policy.load(assignment.checkpoint, threads=1)
    scene = LiberoScene(assignment.suite, assignment.task, vla.config.vision.image_size)
    job, sentence = (
        jobs_with_sentences(scene)[1] if assignment.other_sentence else (None, scene.instruction)
    )
    episodes = []
    for state in assignment.states:
        for name in assignment.decoders:
            decoder, steps = decoding.make(name, vla), []

            def act(image: np.ndarray) -> np.ndarray:
                steps.append(decoder.decide(image, sentence))
                return steps[-1].action

            scene.reset(state, assignment.seed)
            success = run_episode(scene, act, assignment.delay, Expert(scene, job).done if job else None)
            episodes.append(_episode(assignment.task, name, success, steps))
    scene.close()
    return episodes


def _episode(task: int, decoder: str, success: bool, steps: list) -> Episode:
    return Episode(
        task, decoder, success,
        total_ms=[step.timings_ms["total"] for step in steps],
        floor_ms=[step.timings_ms["vision"] + step.timings_ms["prefill"] for step in steps],
        forward_passes=[step.forward_passes for step in steps],
        accepted=[step.accepted_length for step in steps],
        paths=[step.path for step in steps],
    )


def summarise(episodes: list[Episode], decoders: list[str]) -> dict:
    """The results file's "decoders" and "floor_ms" (vision and one prefill, median of the first decoder's steps)."""
    rows = {name: _row([e for e in episodes if e.decoder == name]) for name in decoders}
    baseline = rows.get("autoregressive")
    for row in rows.values():
        ratio = baseline["latency_ms"]["median"] / row["latency_ms"]["median"] if baseline else None
        row["speedup_vs_autoregressive"] = ratio
    floor = np.median(_flat([e for e in episodes if e.decoder == decoders[0]], "floor_ms"))
    return {"decoders": rows, "floor_ms": round(float(floor), 3)}


def _row(episodes: list[Episode]) -> dict:
    successes, count = sum(e.success for e in episodes), len(episodes)
    total, paths = _flat(episodes, "total_ms"), Counter(_flat(episodes, "paths"))
    return {
        "success_rate": successes / count,
        "ci95": list(wilson(successes, count)),
        "per_task": {
            str(task): float(np.mean([e.success for e in episodes if e.task == task]))
            for task in sorted({e.task for e in episodes})
        },
        "latency_ms": {"median": float(np.median(total)), "p95": float(np.percentile(total, 95))},
        "speedup_vs_autoregressive": None,
        "forward_passes_per_action": float(np.mean(_flat(episodes, "forward_passes"))),
        "accepted_length": float(np.mean(_flat(episodes, "accepted"))),
        "paths": {path: n / len(total) for path, n in paths.items()},
    }


def _flat(episodes: list[Episode], name: str) -> list:
    return [value for episode in episodes for value in getattr(episode, name)]


def wilson(successes: int, count: int) -> tuple[float, float]:
    """95 % interval of a rate (Wilson 1927)."""
    z = 1.959964
    rate = successes / count
    centre = rate + z * z / (2 * count)
    spread = z * math.sqrt(rate * (1 - rate) / count + z * z / (4 * count * count))
    return max(0.0, (centre - spread) / (1 + z * z / count)), min(1.0, (centre + spread) / (1 + z * z / count))


def device_name() -> str:
    """The processor's name and the number of its cores in use."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        name = names[0] if names else name
    return f"{name}, {multiprocessing.cpu_count()} cores"


def commit() -> str:
    """The repository's commit, or "unknown" outside a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"
