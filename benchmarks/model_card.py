# SPDX-License-Identifier: Apache-2.0
"""Writes the results tables of the shipped policies' model cards from benchmarks/results/*.json.

    python benchmarks/model_card.py
"""
import json
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHECKPOINTS = ROOT / "src" / "vla_sd_ros" / "checkpoints"
RESULTS = {
    "libero": ("libero_object", "libero_spatial_by_libero"),
    "libero_spatial": ("libero_spatial", "libero_spatial_other_sentence"),
}
BEGIN, END = "<!-- results: made by benchmarks/model_card.py -->", "<!-- end of results -->"


def tables(names: tuple[str, ...]) -> str:
    """Success by suite and by task, as Markdown."""
    reports = {
        name: json.loads(path.read_text())
        for name in names
        if (path := ROOT / "benchmarks" / "results" / f"{name}.json").exists()
    }
    lines = ["| what | success | 95 % interval | episodes | latency median, p95 [ms] |", "|---|---|---|---|---|"]
    for name, report in reports.items():
        row = report["decoders"]["autoregressive"]
        low, high = row["ci95"]
        latency = row["latency_ms"]
        lines.append(
            f"| {name} | {row['success_rate']:.1%} | {low:.1%} to {high:.1%} | {report['episodes']} "
            f"| {latency['median']:.1f}, {latency['p95']:.1f} |"
        )
    tasks = range(10)
    lines += ["", "By task:", "", "| what | " + " | ".join(map(str, tasks)) + " |", "|---" * 11 + "|"]
    for name, report in reports.items():
        rates = report["decoders"]["autoregressive"]["per_task"]
        lines.append(f"| {name} | " + " | ".join(f"{rates[str(task)]:.0%}" for task in tasks) + " |")
    for name, report in reports.items():
        lines += ["", f"{name}: `{report['command']}` at {report['commit']} on {report['device']}"]
    return "\n".join(lines)


def main() -> None:
    for checkpoint, names in RESULTS.items():
        card = CHECKPOINTS / checkpoint / "README.md"
        before, rest = card.read_text().split(BEGIN)
        after = rest.split(END)[1]
        card.write_text(f"{before}{BEGIN}\n{tables(names)}\n{END}{after}")


if __name__ == "__main__":
    main()
