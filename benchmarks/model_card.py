# SPDX-License-Identifier: Apache-2.0
"""Writes the results tables of the shipped policy's model card, and that of the README, from benchmarks/results/*.json.

python benchmarks/model_card.py
"""

import json
from pathlib import Path

ROOT = Path(__file__).parents[1]
CARD = ROOT / "src" / "vla_sd_ros" / "checkpoints" / "libero" / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
SUITES = ("libero_object", "libero_spatial", "libero_goal", "libero_10")
MEASURED = {  # what of the policy, by results file
    **{f"decoders_{suite}": suite for suite in SUITES},
    "decoders_libero_object_random": "libero_object, random places",
    "libero_each": "each",
    **{f"{suite}_{kind}": f"{suite}_{kind}" for suite in SUITES for kind in ("swap", "task", "lan", "object")},
    **{f"decoders_{suite}_seed1": f"{suite}, seed 1" for suite in SUITES},
    **{f"{suite}_seed{seed}": f"{suite}, seed {seed}" for suite in SUITES for seed in (2, 3)},
    **{f"{suite}_delay": f"{suite}, delay" for suite in SUITES},
}
README_ROWS = (  # results file, decoder, what to call it
    ("decoders_libero_object", "autoregressive", "`autoregressive`: no drafts, the measure of all others"),
    ("decoders_libero_object_small", "spec_vla", "`spec_vla`: Spec-VLA"),
    ("decoders_libero_object_small", "kerv", "`kerv`: KERV"),
    ("decoders_libero_object_small", "heisd", "`heisd`: HeiSD"),
    ("decoders_libero_object_small", "prefill", "`prefill` (ours): verified inside the prefill, the same tokens"),
    ("decoders_libero_object", "fused", "`fused` (ours, the demo's)"),
    ("decoders_libero_spatial", "autoregressive", "`autoregressive`"),
    ("decoders_libero_spatial", "fused", "`fused`"),
    ("decoders_libero_goal", "autoregressive", "`autoregressive`"),
    ("decoders_libero_goal", "fused", "`fused`"),
    ("decoders_libero_10", "autoregressive", "`autoregressive`"),
    ("decoders_libero_10", "fused", "`fused`"),
    ("decoders_libero_object_random", "autoregressive", "`autoregressive`, all objects in random places"),
    ("decoders_libero_object_random", "fused", "`fused`, all objects in random places"),
    ("libero_each", "autoregressive", "each object of the scene asked for by name"),
    ("libero_object_swap", "autoregressive", "objects have changed places (LIBERO-PRO)"),
    ("libero_object_task", "autoregressive", "another object is asked for (LIBERO-PRO)"),
    ("libero_spatial_swap", "autoregressive", "things have changed places (LIBERO-PRO)"),
    ("libero_spatial_task", "autoregressive", "another bowl is asked for (LIBERO-PRO)"),
)
BEGIN, END = "<!-- results: made by benchmarks/model_card.py -->", "<!-- end of results -->"


def tables() -> str:
    """Success by suite and by task, as Markdown."""
    reports = {name: read(file) for file, name in MEASURED.items() if (RESULTS / f"{file}.json").exists()}
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
        lines.append(f"| {name} | " + " | ".join(f"{rates[str(task)]:.0%}" if str(task) in rates else "-" for task in tasks) + " |")
    for name, report in reports.items():
        lines += ["", f"{name}: `{report['command']}` at {report['commit']} on {report['device']}"]
    return "\n".join(lines)


def readme_table() -> str:
    """Success beside speed, for a reader who has two minutes."""
    reports = {name: read(name) for name, _, _ in README_ROWS if (RESULTS / f"{name}.json").exists()}
    lines = ["| suite | decoder | success | 95 % interval | episodes | median latency | x AR | passes |", "|---" * 8 + "|"]
    for name, decoder, title in README_ROWS:
        if decoder not in (report := reports.get(name, {"decoders": {}}))["decoders"]:
            continue
        row = report["decoders"][decoder]
        low, high = row["ci95"]
        lines.append(
            f"| {report['suite']} | {title} | {row['success_rate']:.0%} | {low:.0%} to {high:.0%} | {report['episodes']} "
            f"| {row['latency_ms']['median']:.1f} ms | {row['speedup_vs_autoregressive']:.2f} "
            f"| {row['forward_passes_per_action']:.1f} |"
        )
    first = next(iter(reports.values()))
    devices = " and ".join(dict.fromkeys(report["device"] for report in reports.values()))
    return "\n".join(
        [
            *lines,
            "",
            f"Closed loop from initial states that no training has seen, on {devices}, no GPU; latency from image to action, its "
            "ratio to that of `autoregressive` in the same run; passes of the language model for an action. Two of the rows again: "
            f"`vla-sd bench libero --checkpoint libero --suite {first['suite']} --workers 2 --settings config/sim.yaml --decoder "
            "autoregressive,fused`",
        ]
    )


def filled(text: str, results: str) -> str:
    """The text with these results between the two marks."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{results}\n{END}{rest.split(END, 1)[1]}"


def read(name: str) -> dict:
    """A results file."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def main() -> None:
    for page, results in {CARD: tables(), ROOT / "README.md": readme_table()}.items():
        page.write_text(filled(page.read_text(), results))


if __name__ == "__main__":
    main()
