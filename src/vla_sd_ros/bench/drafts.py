# SPDX-License-Identifier: Apache-2.0
"""`vla-sd bench drafts`: how near each source's drafts come to the verifier's own tokens, on recorded observations."""

import argparse
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vla_sd_ros import inputs
from vla_sd_ros.bench import results
from vla_sd_ros.bench.decode import CLOSE, RecordedStep, replay
from vla_sd_ros.bench.parts import Parts, parts
from vla_sd_ros.decoding.autoregressive import Autoregressive
from vla_sd_ros.decoding.history import History
from vla_sd_ros.decoding.methods.fused import foretold, kinematic_radius, turns
from vla_sd_ros.decoding.settings import SOURCES, Settings
from vla_sd_ros.decoding.sources import KalmanFilter, Knowledge, Marginals, observed
from vla_sd_ros.policy.model import DraftHead
from vla_sd_ros.policy.vla import Prompt, Vla

RADII = (0, 1, 2, 5, 9, 15)  # [bins]
UNKNOWN = -1000  # near no bin


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of the command."""
    parser.add_argument("--observations", type=inputs.path, required=True, help="what vla-sd bench libero --record wrote")
    parser.add_argument("--most", type=inputs.count, default=100_000, help="observations at most")


def run(arguments: argparse.Namespace) -> int:
    """The command; returns its exit code."""
    found = survey(parts(arguments), arguments.observations, arguments.most)
    rows = {source: quality(draft, found.plain) for source, draft in found.drafts.items()}
    print("source       within r bins of the verifier's token / mean accepted prefix of 7, r = " + ", ".join(map(str, RADII)))
    for source, row in rows.items():
        print(f"{source:12} " + "  ".join(f"{row['within'][str(r)]:.2f}/{row['prefix'][str(r)]:.2f}" for r in RADII))
        print(f"{'':12} by dimension within {CLOSE}: " + " ".join(f"{x:.2f}" for x in row["by_dimension"]))
    if arguments.json:
        report = {**results.provenance(arguments.checkpoint, 0), "observations": len(found.plain), "drafts": rows}
        results.write(arguments.json, report)
    return 0


@dataclass(frozen=True)
class Survey:
    """What the sources knew at n recorded steps.

    plain (n, 7): the verifier's greedy tokens. drafts: of each source its first candidate (n, 7), UNKNOWN where it had none.
    retrieved (n, k, 7): all that was retrieved, UNKNOWN behind the end; similarity (n,) of the nearest, NaN without one.
    middle (n, 7): the draft head's bins for relaxed acceptance, UNKNOWN without a head; radius (n, 7): how far they may be off
    in fused [bins]; confidence (n,): the head's own probability that their motion is not, NaN without a head.
    foretold (n, REACH, 7), foretold_radius (n, REACH, 7), foretold_confidence (n, REACH): the same of the head one step ahead, two,
    and so on, of all seven tokens; NaN also where fused does not ask it: by the first image of an episode, and when the gripper turns.
    positions (n, 3) [m]: of the end effector, NaN where it is not known. begins (n,) bool: first step of an episode.
    observed (n, 7): what the Kalman filter sees of the step before, normalised; NaN at a first step.
    """

    plain: np.ndarray
    drafts: dict[str, np.ndarray]
    retrieved: np.ndarray
    similarity: np.ndarray
    middle: np.ndarray
    radius: np.ndarray
    confidence: np.ndarray
    foretold: np.ndarray
    foretold_radius: np.ndarray
    foretold_confidence: np.ndarray
    positions: np.ndarray
    begins: np.ndarray
    observed: np.ndarray


def survey(given: Parts, observations: Path, most: int) -> Survey:
    """survey_of() recorded observations. Raises ValueError when there is none."""
    model = replace(given, decoders=()).model()
    steps = replay(model.vla, observations, most)
    return survey_of(model.vla, steps, model.database, given.decoder_settings())


def survey_of(vla: Vla, steps: Iterable[RecordedStep], database: Any = None, settings: Settings = Settings()) -> Survey:
    """Ask every source at every recorded step. Raises ValueError when there is none."""
    reference, kalman, rows = Autoregressive(vla), KalmanFilter(settings), []
    prompts: deque[Prompt] = deque(maxlen=DraftHead.REACH)  # of the steps before, the newest first
    for image, instruction, history in steps:
        prompt = vla.observe(image, instruction)
        knowledge = Knowledge(vla, settings, kalman, database, history, instruction, prompt)
        retrieved = np.full((settings.retrieval_candidates, 7), UNKNOWN)
        retrieved[: len(knowledge.retrieval)] = knowledge.retrieval
        position = history.position()
        rows.append(
            (
                reference.decide(image, instruction).bins,
                [_first(knowledge.candidates(source)) for source in SOURCES],
                retrieved,
                knowledge.neighbours.similarity[0] if len(knowledge.retrieval) else np.nan,
                *_middle(knowledge.head_marginals, vla, settings, 6),
                *_ahead(vla, prompts, history, settings),
                np.full(3, np.nan) if position is None else position,
                not len(history),
                observed(history, len(history) - 1, settings.kalman_observe) if len(history) else np.full(7, np.nan),
            )
        )
        prompts.appendleft(prompt)
    if not rows:
        raise ValueError("there is no recorded step: record some with vla-sd bench libero --record DIR")
    columns = [np.array(column) for column in zip(*rows)]
    plain, drafts, *others = columns
    known = {source: drafts[:, i] for i, source in enumerate(SOURCES) if (drafts[:, i] != UNKNOWN).any()}
    return Survey(plain, known, *others)


def _middle(found: Marginals | None, vla: Vla, settings: Settings, tokens: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Bins and radius (7,), and the head's own probability that so many of the tokens are within it."""
    if found is None:
        return np.full(7, UNKNOWN), np.zeros(7), np.nan
    radius = kinematic_radius(settings, vla, found)
    bins, probability = found.within(radius)
    return bins, radius, float(probability[:tokens].prod())


def _ahead(vla: Vla, before: Sequence[Prompt], history: History, settings: Settings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same of a step whose image has not been looked at, only that of one of the steps before: (REACH, 7) twice, (REACH,)."""
    head, found = vla.draft_head, []
    for by in range(1, DraftHead.REACH + 1):
        if head is None or not head.looks_ahead or len(history) <= by:
            found.append(_middle(None, vla, settings, 7))
            continue
        bins, radius, confidence = _middle(foretold(vla, before[by - 1], history, by), vla, settings, 7)
        asked = not (turns(*history.bins[-2:]) or turns(history.bins[-1], bins))
        found.append((bins, radius, confidence if asked else np.nan))
    drafts, radii, confidences = (np.array(column) for column in zip(*found))
    return drafts, radii, confidences


def _first(candidates: np.ndarray) -> np.ndarray:
    return candidates[0] if len(candidates) else np.full(7, UNKNOWN)


def quality(drafts: np.ndarray, plain: np.ndarray) -> dict:
    """Fractions of tokens within each radius, mean accepted prefix at each radius, and fractions within CLOSE by dimension.

    drafts, plain (n, 7): the drafted bins and those of autoregressive decoding.
    """
    distance = np.abs(drafts - plain)
    return {
        "within": {str(r): float((distance <= r).mean()) for r in RADII},
        "prefix": {str(r): float(np.logical_and.accumulate(distance <= r, axis=1).sum(1).mean()) for r in RADII},
        "by_dimension": (distance <= CLOSE).mean(0).tolist(),
    }
