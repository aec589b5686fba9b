# SPDX-License-Identifier: Apache-2.0
"""`vla-sd calibrate`: fits the decoders' settings to a policy, from recorded observations, and writes them as parameters.

The observations must not be those that the decoders are measured on afterwards.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from vla_sd_ros import inputs
from vla_sd_ros.assembly import Source
from vla_sd_ros.assembly.local import Model, load
from vla_sd_ros.bench import results
from vla_sd_ros.bench.decode import RecordedStep, replay
from vla_sd_ros.bench.drafts import UNKNOWN, Survey, survey_of
from vla_sd_ros.decoding.acceptance import SequenceWise
from vla_sd_ros.decoding.parameter_file import check_settings, read_pairs
from vla_sd_ros.decoding.settings import SOURCES, Settings
from vla_sd_ros.kinematics.fused_metric import DISPLACEMENTS, FusedMetric, Range, circle_radius
from vla_sd_ros.policy.actions import decode
from vla_sd_ros.training import trees
from vla_sd_ros.training.threshold import Threshold, fit_threshold

QUANTILE = 95  # [%], of the values that becomes 1 in the fused metric (HeiSD)
SKIP_PRECISION = 0.93  # share of the draft head's skipped actions that the verifier would have accepted; of those ahead, too
RETRIEVAL_PRECISION = 0.7  # the same of retrieved ones: the nearest neighbours of all are not accepted much more often
COMPETING = 3  # [bins] within which the sources of a composite draft compete
LEAST_PATH = 3  # positions, of which fewer have no radius
TREE_STEPS = 150  # recorded steps that each shape of the drafter's tree decodes

Steps = Callable[[], Iterator[RecordedStep]]  # begins with the first recorded step whenever it is called


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of the command."""
    inputs.add_policy(parser)
    parser.add_argument("--observations", type=inputs.path, required=True, help="what vla-sd bench libero --record wrote")
    parser.add_argument("--database", default="", help="directory of a trajectory database; default: the checkpoint's own")
    parser.add_argument("--drafter", default="", help="directory or file of a drafter; default: the checkpoint's own")
    inputs.add_weights(parser)
    inputs.add_largest_step(parser)
    parser.add_argument("--threads", type=inputs.count, default=1, help="CPU threads of the policy")
    parser.add_argument("--most", type=inputs.count, default=3000, help="observations at most")
    parser.add_argument(
        "--tree-steps",
        type=inputs.whole(0, 100_000),
        default=TREE_STEPS,
        metavar="N",
        help="observations that each shape of the drafter's tree decodes; 0: leave the shapes alone",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting that the others shall be fitted with, as kalman_observe=measured; it is written as it is given",
    )
    parser.add_argument("--output", type=inputs.path, default=Path("decoder.yaml"))
    parser.add_argument("--json", type=inputs.path, help="write what was measured here, for vla-sd bench decode --project")


def run(arguments: argparse.Namespace) -> int:
    """The command; returns its exit code."""
    inputs.writable_file(arguments.output, "--output")
    if arguments.json:
        inputs.writable_file(arguments.json, "--json")
    try:
        given = read_pairs(arguments.set)
        model = load(Source.of(arguments))
        steps = partial(replay, model.vla, arguments.observations, arguments.most)
        found = calibrate(model, steps, Settings(**given), arguments.tree_steps)
    except ValueError as error:
        print(f"vla-sd calibrate: {error}", file=sys.stderr)
        return 2
    found = replace(found, settings=found.settings | given)
    parameters = {"/**/vla_node": {"ros__parameters": {"decoder": found.settings}}}
    arguments.output.write_text(
        f"# Made by vla-sd calibrate for the checkpoint {arguments.checkpoint} on {trees.device_name(model.vla)}.\n"
        + yaml.safe_dump(parameters, sort_keys=False)
    )
    for line in found.lines():
        print(line)
    if arguments.json:
        results.write(
            arguments.json,
            {**results.provenance(arguments.checkpoint, 0), "device": trees.device_name(model.vla), **found.report()},
        )
    return 0


@dataclass(frozen=True)
class Calibration:
    """settings: by name, as Settings has them. threshold: how KERV's was found; shapes: what each shape of the drafter's tree
    cost in each decoder. Both None where there is no drafter."""

    settings: dict[str, Any] = field(default_factory=dict)
    threshold: Threshold | None = None
    shapes: trees.Shapes | None = None

    def report(self) -> dict:
        """For a results file."""
        return {
            "settings": self.settings,
            **({"threshold": self.threshold.report()} if self.threshold else {}),
            **(self.shapes.report() if self.shapes else {}),
        }

    def lines(self) -> Iterator[str]:
        """For people."""
        yield from (f"{name}: {value}" for name, value in self.settings.items())
        if self.threshold:
            yield self.threshold.sentence()
        if self.shapes:
            yield from self.shapes.lines()


def calibrate(model: Model, steps: Steps, settings: Settings = Settings(), tree_steps: int = TREE_STEPS) -> Calibration:
    """Fit what the policy's decoders depend on, with these settings: of retrieval only where there is a database, of drafting only
    where there is a drafter. Raises ValueError when there is no recorded step."""
    found = survey_of(model.vla, steps(), model.database, settings)
    fitted = fit(found, settings)
    if model.drafter is None:
        return Calibration(fitted)
    threshold = fit_threshold(model.vla, model.drafter, steps(), found.plain, settings)
    fitted |= threshold.settings()
    shapes = trees.measure(model, steps, replace(settings, **fitted), tree_steps) if tree_steps else None
    return Calibration(fitted | (shapes.settings() if shapes else {}), threshold, shapes)


def fit(found: Survey, settings: Settings = Settings()) -> dict[str, Any]:
    """Settings by name, for use with these; those of retrieval only where something was retrieved, those of the path only where it
    is known, long enough and moves."""
    paths = np.split(found.positions, np.flatnonzero(found.begins)[1:])
    fitted = {"kalman_decay": decays(found.observed, decode(found.plain)), "composite": best_sources(found)}
    located = bool(np.isfinite(found.positions).all()) and max(map(len, paths)) >= LEAST_PATH
    if located:
        fitted |= metric_ranges(paths, settings.metric_window, settings.metric_displacement)
    if "head" in found.drafts:
        fitted["skip_confidence"] = skip_threshold(found.confidence, head_accepted(found), SKIP_PRECISION)
    asked = np.isfinite(found.foretold_confidence)
    asked[:, settings.ahead_steps :] = False
    if asked.any():
        near = np.all(np.abs(found.foretold - found.plain[:, None]) <= found.foretold_radius, axis=-1)
        fitted["ahead_confidence"] = skip_threshold(found.foretold_confidence[asked], near[asked], SKIP_PRECISION)
    if "retrieval" in found.drafts:
        accepted = retrieval_accepted(found, settings)
        fitted["skip_similarity"] = skip_threshold(found.similarity, accepted, RETRIEVAL_PRECISION)
        if located:
            fitted["metric_boundary"] = boundary(metric_values(paths, settings, fitted), accepted)
    return {name: value for name, value in fitted.items() if _is_setting(name, value)}


def _is_setting(name: str, value: Any) -> bool:
    """Whether a setting can have this value; the range of a path that does not move is none."""
    try:
        check_settings({name: value})
        return True
    except ValueError:
        return False


def decays(before: np.ndarray, after: np.ndarray) -> list[float]:
    """Factor (6,) from what the filter saw of a step (n, 7) to the next action (n, 7), both normalised, by least squares, over
    the pairs without a gripper event; rows of NaN have no step before."""
    pair = np.isfinite(before).all(1) & ((before[:, 6] > 0.5) == (after[:, 6] > 0.5))
    before, after = before[pair, :6], after[pair, :6]
    return [float(x) for x in np.clip((before * after).sum(0) / np.maximum((before**2).sum(0), 1e-9), 0.0, 1.2).round(3)]


def best_sources(found: Survey) -> list[str]:
    """For each dimension the source that comes within COMPETING bins of the verifier most often."""
    sources = [source for source in SOURCES if source in found.drafts and source != "composite"]
    hits = np.array([(np.abs(found.drafts[source] - found.plain) <= COMPETING).mean(0) for source in sources])
    return [sources[i] for i in hits.argmax(0)]


def metric_ranges(paths: list[np.ndarray], window: int, displacement: str) -> dict:
    """What becomes 1 in the fused metric: the quantile of radii and displacements over all windows of the paths (T, 3)."""
    windows = [path[max(0, end - window) : end] for path in paths for end in range(LEAST_PATH, len(path) + 1)]
    radii, lengths = [circle_radius(w) for w in windows], [DISPLACEMENTS[displacement](w) for w in windows]
    return {
        "metric_radius": [0.0, float(np.percentile(radii, QUANTILE).round(4))],
        "metric_length": [0.0, float(np.percentile(lengths, QUANTILE).round(4))],
    }


def metric_values(paths: list[np.ndarray], settings: Settings, fitted: dict) -> np.ndarray:
    """The fused metric (n,) at every step of the paths, with the ranges that were fitted."""
    values = []
    for path in paths:
        metric = FusedMetric(
            Range(*fitted["metric_radius"]),
            Range(*fitted["metric_length"]),
            settings.metric_window,
            settings.metric_alpha,
            settings.metric_displacement,
        )
        values += [metric.update(position) for position in path]
    return np.array(values)


def retrieval_accepted(found: Survey, settings: Settings) -> np.ndarray:
    """Whether sequence-wise acceptance would take the nearest neighbour's action (n,), judged by the greedy tokens."""
    rule, nearest = SequenceWise(settings.sequence_largest, settings.sequence_total), found.drafts["retrieval"]
    return (rule(nearest, found.plain, 0) == 7) & (nearest[:, 0] != UNKNOWN)


def head_accepted(found: Survey) -> np.ndarray:
    """Whether fused would take the motion of the draft head's action (n,), judged by the greedy tokens."""
    return np.all((np.abs(found.middle - found.plain) <= found.radius)[:, :6], axis=1)


def skip_threshold(score: np.ndarray, accepted: np.ndarray, least: float) -> float:
    """The lowest score (n,) above which at least this share of the drafts is accepted (n,); 1.1 (never) if there is none."""
    order = np.argsort(-np.nan_to_num(score, nan=-1.0))
    precision = np.cumsum(accepted[order]) / np.arange(1, len(order) + 1)
    good = np.flatnonzero(precision >= least)
    good = good[good >= 20]  # fewer say nothing
    return float(round(score[order[good[-1]]], 5)) if len(good) else 1.1


def boundary(values: np.ndarray, accepted: np.ndarray) -> float:
    """The fused metric that best parts accepted retrievals (above) from rejected ones (Youden's J)."""
    known = np.isfinite(values)
    values, accepted = values[known], accepted[known]
    candidates = np.quantile(values, np.linspace(0.0, 0.95, 39))
    gains = [
        accepted[values > c].sum() / max(accepted.sum(), 1) - (~accepted[values > c]).sum() / max((~accepted).sum(), 1)
        for c in candidates
    ]
    return float(round(candidates[int(np.argmax(gains))], 4))
