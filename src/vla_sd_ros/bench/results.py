# SPDX-License-Identifier: Apache-2.0
"""Rows of a results file from single steps, and what a results file says about where it was made."""

import json
import multiprocessing
import platform
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from vla_sd_ros.decoding.decision import Decision
from vla_sd_ros.policy.vla import ACTION_TOKENS

NO_TREES: Mapping[str, list[int]] = {}


@dataclass(frozen=True)
class Step:
    """What one action cost. passes: kind, drafted and accepted of each pass of the language model, first to last."""

    path: str
    timings_ms: dict[str, float]
    passes: list[tuple[str, int, int]]

    @classmethod
    def of(cls, row: dict) -> "Step":
        """From what asdict() made of one, and JSON of that."""
        return cls(row["path"], row["timings_ms"], [tuple(one) for one in row["passes"]])

    @property
    def accepted(self) -> int:
        """How many drafted tokens the verifier accepted."""
        return sum(accepted for _, _, accepted in self.passes)

    def drafted(self) -> np.ndarray:
        """Which of the seven tokens (7,) bool are accepted drafts; the others are the verifier's, or were not verified."""
        marks, position = np.zeros(ACTION_TOKENS, dtype=bool), 0
        for _, _, accepted in self.passes:
            marks[position : position + accepted] = True
            position += accepted + 1
        return marks


def step_of(decision: Decision) -> Step:
    """What is kept of a decision."""
    passes = [(record.kind, record.drafted, record.accepted) for record in decision.passes]
    return Step(decision.path, decision.timings_ms, passes)


def step_row(steps: Sequence[Step]) -> dict:
    """Latency, passes, accepted length and paths of steps, in the results file's terms."""
    total = [step.timings_ms["total"] for step in steps]
    paths = Counter(step.path for step in steps)
    return {
        "latency_ms": {"median": float(np.median(total)), "mean": float(np.mean(total)), "p95": float(np.percentile(total, 95))},
        "stages_ms": {
            stage: float(np.mean([step.timings_ms[stage] for step in steps])) for stage in ("vision", "prefill", "draft", "decode")
        },
        "forward_passes_per_action": float(np.mean([len(step.passes) for step in steps])),
        "accepted_length": float(np.mean([step.accepted for step in steps])),
        "accepted_by_position": np.mean([step.drafted() for step in steps], axis=0).round(4).tolist(),
        "paths": {path: count / len(steps) for path, count in sorted(paths.items())},
        "sequences": sequences(steps),
    }


def sequences(steps: Sequence[Step]) -> dict[str, int]:
    """How many of the steps took which path by which passes, the most frequent first: enough to price them on any device."""
    return dict(Counter(sequence(step.path, step.passes) for step in steps).most_common())


def sequence(path: str, passes: Iterable[tuple[str, int, int]]) -> str:
    """As text, for example "draft: prefill 0 0, extend 5 4", drafted and accepted behind each kind."""
    return f"{path}: " + ", ".join(f"{kind} {drafted} {accepted}" for kind, drafted, accepted in passes)


def read_sequence(text: str) -> tuple[str, list[tuple[str, int, int]]]:
    """Path and passes of what sequence() wrote. Raises ValueError."""
    path, _, passes = text.partition(": ")
    parts = [one.split() for one in passes.split(", ") if one]
    return path, [(kind, int(drafted), int(accepted)) for kind, drafted, accepted in parts]


def add_ratios(rows: dict[str, dict]) -> None:
    """Speed-ups of each row, by the medians and by the means, against those baselines that are among the rows."""
    for baseline in ("autoregressive", "naive_sd"):
        for row in rows.values():
            own, other = row["latency_ms"], rows.get(baseline, {}).get("latency_ms", {})
            row[f"speedup_vs_{baseline}"] = other["median"] / own["median"] if other else None
            row[f"mean_speedup_vs_{baseline}"] = other["mean"] / own["mean"] if other else None


def provenance(checkpoint: str, seed: int) -> dict:
    """The fields of a results file that say where it comes from."""
    return {
        "checkpoint": checkpoint,
        "device": device_name(),
        "commit": commit(),
        "command": "vla-sd " + shlex.join(sys.argv[1:]),
        "seed": seed,
    }


def write(path: Path, report: dict) -> None:
    """Write a report as JSON; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")


def write_trace(path: Path, episodes: Sequence[tuple[dict, Sequence[Step]]]) -> None:
    """One line of JSON an episode: what it was, and the passes of each step, for an engine of another size to replay."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        for about, steps in episodes:
            file.write(json.dumps({**about, "steps": [asdict(step) for step in steps]}) + "\n")


def wilson(successes: int, count: int) -> tuple[float, float]:
    """95 % interval of a rate (Wilson 1927)."""
    from scipy.stats import binomtest  # takes half a second to import

    interval = binomtest(successes, count).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


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
