# SPDX-License-Identifier: Apache-2.0
"""Each setting of the decoders over a range, and each part switched off in turn, on recorded observations.

    python benchmarks/sweeps.py --observations seen --database database --drafter libero --settings decoder.yaml

writes benchmarks/results/sweeps.json, from which benchmarks/decoders.py makes its plots and its table. Open loop: the history
is the recorded one, so what is told is the passes, the time, and how far the tokens are from the verifier's own.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from vla_sd_ros.bench import decode, results
from vla_sd_ros.bench.parts import Parts, add_arguments, parts

OUTPUT = Path(__file__).parent / "results" / "sweeps.json"
# decoder, setting, values
SWEEPS = (
    ("spec_vla", "relaxed_radius", [0, 3, 5, 9, 15, 25]),
    ("prefill_relaxed", "relaxed_radius", [0, 3, 5, 9, 15, 25]),
    ("kerv", "kalman_window", [2, 5, 10, 20]),
    ("heisd", "retrieval_candidates", [1, 3, 5, 9]),
    ("heisd", "metric_window", [5, 10, 15, 25]),
    ("heisd", "metric_alpha", [0.0, 0.25, 0.5, 0.75, 1.0]),
    ("heisd", "skip_similarity", [0.98, 0.99, 0.995, 0.999, 1.1]),
    ("fused", "skip_confidence", [0.0, 0.2, 0.4, 0.6, 0.8, 1.1]),
    ("fused", "fused_run", [0, 1, 2, 4, 6, 10]),
    ("fused", "ahead_confidence", [0.0, 0.2, 0.4, 0.6, 0.8, 1.1]),
    ("fused", "ahead_steps", [0, 1, 2]),
    ("prefill_jacobi", "jacobi_radius", [0, 3, 9, 20, 40, 255]),
    ("prefill", "head_least", [0.0, 0.02, 0.05, 0.1, 0.2]),
)
# decoder, what is switched off, settings
ABLATIONS = (
    ("fused", "nothing", {}),
    ("fused", "verify-skip", {"fused_run": 0}),
    ("fused", "skip_while_right (a head that was wrong is believed)", {"skip_while_right": False}),
    ("fused", "looking ahead (each image is looked at)", {"ahead_steps": 0}),
    ("fused", "the second step ahead", {"ahead_steps": 1}),
    ("fused", "draft head (last action instead)", {"fused_run": 0, "prefill_sources": ["last_action"]}),
    ("fused", "draft head (Kalman filter instead)", {"fused_run": 0, "prefill_sources": ["kalman"]}),
    ("fused", "draft head (median of the neighbours instead)", {"fused_run": 0, "prefill_sources": ["median"]}),
    ("fused", "draft head (nearest neighbour instead)", {"fused_run": 0, "prefill_sources": ["retrieval"]}),
    ("prefill_jacobi", "nothing", {}),
    ("prefill_jacobi", "further passes (one pass always)", {"jacobi_radius": 255.0}),
    ("prefill_jacobi", "tolerance (exact)", {"jacobi_radius": 0.0}),
    ("prefill_relaxed", "nothing (drafts emitted instead of the verifier's tokens)", {}),
    ("prefill", "nothing", {}),
    ("prefill", "the tree (the likeliest action alone)", {"head_nodes": 0}),
    ("kerv", "nothing", {}),
    ("kerv", "compensation (but once an episode)", {"kerv_cooldown": 1000}),
    ("kerv", "dynamic threshold", {"kerv_mode": "fixed"}),
    ("heisd", "nothing", {}),
    ("heisd", "verify-skip", {"skip_run": 0}),
    ("heisd", "sequence-wise acceptance (exact instead)", {"skip_run": 0, "sequence_largest": 0, "sequence_total": 0}),
    ("heisd", "drafter (always retrieve)", {"metric_boundary": 0.0}),
    ("heisd", "retrieval (always draft)", {"metric_boundary": 1.0}),
)


def measure(given: Parts, decoder: str, settings: dict, arguments: argparse.Namespace) -> dict:
    """The row of one decoder with these settings beside the given ones."""
    changed = tuple((dict(given.settings) | settings).items())
    answers = decode.measure(
        replace(given, decoders=(decoder,), settings=changed), arguments.observations, arguments.most, arguments.seed
    )
    row = decode.summarise(answers)["decoders"][decoder]
    distance = np.abs(np.array([a.bins - a.plain for a in answers[decoder]]))[:, :6]
    kept = ("forward_passes_per_action", "accepted_length", "paths")
    return {"decoder": decoder, "latency_ms": row["latency_ms"], "bins_off": float(distance.mean())} | {k: row[k] for k in kept}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--observations", type=Path, required=True, help="what vla-sd bench libero --record wrote")
    parser.add_argument("--most", type=int, default=200, help="observations at most")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    given = parts(arguments)
    report = {"observations": arguments.most, **results.provenance(arguments.checkpoint, 0), "sweeps": [], "ablations": []}
    for decoder, setting, values in SWEEPS:
        for value in values:
            row = measure(given, decoder, {setting: value}, arguments)
            report["sweeps"].append({"setting": setting, "value": value, **row})
            print(
                f"{decoder}, {setting} = {value}: {row['forward_passes_per_action']:.2f} passes, "
                f"{row['latency_ms']['median']:.1f} ms, {row['bins_off']:.1f} bins off",
                flush=True,
            )
    for decoder, without, settings in ABLATIONS:
        row = measure(given, decoder, settings, arguments)
        report["ablations"].append({"without": without, **row})
        print(
            f"{decoder} without {without}: {row['forward_passes_per_action']:.2f} passes, "
            f"{row['latency_ms']['median']:.1f} ms, {row['bins_off']:.1f} bins off",
            flush=True,
        )
    results.write(OUTPUT, report)


if __name__ == "__main__":
    main()
