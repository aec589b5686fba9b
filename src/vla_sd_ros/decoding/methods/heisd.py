# SPDX-License-Identifier: Apache-2.0
"""HeiSD (arXiv 2603.17573): retrieval where the arm moves fast and straight, Spec-VLA's drafter where it moves slowly.

The kinematic fused metric of the end effector's path chooses. Where it retrieves, the nearest demonstration's action is
executed without verification while its similarity is above a threshold that learns from the outcomes (verify-skip); otherwise
the verifier judges the nearest K as one tree and accepts position, rotation and gripper as wholes (sequence-wise acceptance).
"""

from functools import partial

import numpy as np

from vla_sd_ros.decoding.acceptance import GROUPS, Relaxed, SequenceWise, radius_of
from vla_sd_ros.decoding.decision import PassRecord, Stopwatch
from vla_sd_ros.decoding.methods.spec_vla import RELEASED_TREE, drafted, drafting
from vla_sd_ros.decoding.settings import Settings
from vla_sd_ros.decoding.sources import Candidates, Knowledge
from vla_sd_ros.decoding.speculative import AUTOREGRESSIVE, Method, Outcome, Plan
from vla_sd_ros.kinematics.fused_metric import FusedMetric, Range, mean_distance
from vla_sd_ros.policy.draft import chain, merge
from vla_sd_ros.policy.vla import ACTION_TOKENS, Prompt, Vla

FIRST_STEPS = 3  # decoded autoregressively: there is no path yet
TOTAL, LARGEST = 45, 25  # bounds of the released sequence-wise acceptance, which stay below them [bins]


class Heisd(Method):
    """As published, but for the features of verify-skip's similarity, which are the pooled ones of the vision tower."""

    def __init__(self, settings: Settings, drafter):
        super().__init__(settings, drafter)
        self._metric = metric(settings)
        self._gate = SkipGate(settings)

    def plan(self, knowledge: Knowledge) -> Plan:
        s, value = self._settings, follow_path(self._metric, knowledge)
        if len(knowledge.history) < FIRST_STEPS:
            self._gate.begin()
            return Plan("autoregressive", fused_metric=value)
        retrieved = knowledge.retrieval
        if not len(retrieved) or not value > s.metric_boundary:
            return drafted(self._drafter, s.tree("heisd"), radius_of(s, knowledge.vla.statistics), fused_metric=value)
        if self._gate.opens(knowledge):
            return Plan("skip", skip=retrieved[0], fused_metric=value)
        return Plan(
            "retrieval",
            Candidates(recombined(retrieved) if s.retrieval_recombine else retrieved),
            SequenceWise(s.sequence_largest, s.sequence_total),
            threshold=float(s.sequence_largest),
            fused_metric=value,
        )

    def learn(self, knowledge: Knowledge, plan: Plan, outcome: Outcome) -> None:
        if plan.path == "retrieval":
            self._gate.learn(outcome)


class HeisdReference(Method):
    """HeiSD as its released code behaves, with its own constants whatever the settings are.

    The fused metric is that of the points before the newest one, over a window of five, and its radius is no circle's. Above
    the suite's boundary two steps of three execute the nearest neighbour's action without the language model, and the third
    verifies the neighbours (verify_released()); a step of the drafter begins the three anew.
    """

    own = {"relaxed_radius": 9.0, "retrieval_candidates": 5}
    SKIPS = 2  # steps in a row
    # of a suite: the boundary, and the ranges of radius and displacement [m]
    SUITES = {
        "libero_goal": (0.14321, Range(1e-6, 0.016873), Range(9e-6, 0.139051)),
        "libero_spatial": (0.2171, Range(1e-6, 0.0157), Range(9e-6, 0.1286)),
        "libero_object": (0.1882, Range(1e-6, 0.0142), Range(9e-6, 0.1165)),
        "libero_10": (0.4, Range(1e-6, 0.0125), Range(9e-6, 0.1023)),
    }

    def __init__(self, settings: Settings, drafter):
        super().__init__(settings, drafter)
        self._metric: FusedMetric | None = None  # made when the suite is known
        self._skipped = 0

    def plan(self, knowledge: Knowledge) -> Plan:
        suite = self._settings.suite_of(knowledge.vla.unnorm_key)
        boundary, *ranges = self.SUITES.get(suite, self.SUITES["libero_goal"])
        if not len(knowledge.history) or self._metric is None:
            self._metric = FusedMetric(ranges[0], ranges[1], 5, 0.5, "spread", mean_distance)
            self._skipped = 0
        value, position = self._metric.value(), knowledge.history.position()
        if position is not None:
            self._metric.update(position)
        if np.isnan(value):
            return Plan("autoregressive", fused_metric=value)
        if value <= boundary:
            self._skipped = 0
            radius = self._settings.relaxed_radius
            return Plan(
                "draft",
                drafting(self._drafter, RELEASED_TREE, ACTION_TOKENS),
                Relaxed(np.full(ACTION_TOKENS, radius)),
                threshold=radius,
                fused_metric=value,
            )
        retrieved = knowledge.retrieval
        if not len(retrieved):
            self._skipped = 0
            return Plan("autoregressive", fused_metric=value)
        if self._skipped < self.SKIPS:
            self._skipped += 1
            return Plan("skip", skip=retrieved[0], fused_metric=value)
        self._skipped = 0
        return Plan(
            "retrieval", decode=partial(verify_released, candidates=retrieved), threshold=float(LARGEST - 1), fused_metric=value
        )


def verify_released(vla: Vla, prompt: Prompt, watch: Stopwatch, candidates: np.ndarray) -> Outcome:
    """Verify whole actions (k, 7) as the released code does: one pass over all of them after the prefill, and autoregressive
    decoding from the first group on that fails. Each candidate is judged by what the verifier says along the first one."""
    outcome, draft = Outcome(), merge(candidates)
    first_bin = vla.prefill(prompt).greedy()[0]
    outcome.passes.append(PassRecord("prefill", 0, 0))
    watch.lap("prefill")
    verifier_bins = np.append(first_bin, vla.extend(draft).greedy()[: ACTION_TOKENS - 1])
    vla.keep([])
    outcome.tokens = groups_that_stand(candidates, verifier_bins)
    outcome.passes.append(PassRecord("extend", len(draft), len(outcome.tokens)))
    outcome.rejected = len(outcome.tokens) < ACTION_TOKENS

    outcome.tokens = outcome.tokens or [int(first_bin)]
    fresh = outcome.tokens  # not in the cache yet
    while len(outcome.tokens) < ACTION_TOKENS:
        bins = vla.extend(chain(fresh)).greedy()
        vla.keep(list(range(len(fresh))))
        fresh = [int(bins[-1])]
        outcome.tokens = outcome.tokens + fresh
        outcome.passes.append(PassRecord("extend", 0, 0))
    watch.lap("decode")
    return outcome


def groups_that_stand(candidates: np.ndarray, verifier_bins: np.ndarray) -> list[int]:
    """The tokens of the groups before the first one that no candidate (k, 7) passes, each from its nearest candidate.

    If all groups pass, the whole action is that of the candidate whose position is nearest, whether it passed the rest or not.
    """
    judged = judged_groups(candidates, verifier_bins)
    if all(passed for _, passed in judged):
        return candidates[judged[0][0]].tolist()
    tokens: list[int] = []
    for (low, high), (nearest, passed) in zip(GROUPS, judged):
        if not passed:
            break
        tokens += candidates[nearest, low:high].tolist()
    return tokens


def judged_groups(candidates: np.ndarray, verifier_bins: np.ndarray) -> list[tuple[int, bool]]:
    """Of each group the nearest candidate (k, 7) to the verifier's bins (7,), and whether any passes: with a sum of errors below
    TOTAL and each below LARGEST bins. Only those that pass a group are judged in the next one; after one that none passes, all."""
    bias, alive, judged = np.abs(candidates - verifier_bins), np.arange(len(candidates)), []
    for low, high in GROUPS:
        sums, largest = bias[alive, low:high].sum(1), bias[alive, low:high].max(1)
        passed = (sums < TOTAL) & (largest < LARGEST)
        judged.append((int(alive[sums.argmin()]), bool(passed.any())))
        alive = alive[passed] if passed.any() else np.arange(len(candidates))
    return judged


class RetrievalOnly(Method):
    """The nearest demonstration's action, never verified; autoregressive where the database knows nothing."""

    def plan(self, knowledge: Knowledge) -> Plan:
        retrieved = knowledge.retrieval
        return Plan("skip", skip=retrieved[0]) if len(retrieved) else AUTOREGRESSIVE


class SkipGate:
    """Verify-skip: whether retrieved actions are near enough to what they were recorded at to be executed unverified.

    The threshold rises when the verifier rejects a retrieved action and falls, a third as fast, when it accepts one. At most
    skip_run steps in a row go unverified, so that the verifier always comes back.
    """

    def __init__(self, settings: Settings):
        self._settings = settings
        self.threshold = settings.skip_similarity
        self._skipped = 0  # steps in a row

    def begin(self) -> None:
        """A new goal: what the verifier said of earlier ones stays learnt."""
        self._skipped = 0

    def opens(self, knowledge: Knowledge) -> bool:
        """Whether this step's nearest neighbour may be executed unverified; counts it if so."""
        near = len(knowledge.retrieval) and knowledge.neighbours.similarity[0] >= self.threshold
        self._skipped = self._skipped + 1 if near and self._skipped < self._settings.skip_run else 0
        return self._skipped > 0

    def learn(self, outcome: Outcome) -> None:
        """Move the threshold by what the verifier said of a retrieved action."""
        step = self._settings.skip_adjustment
        self.threshold = float(np.clip(self.threshold + (step if outcome.rejected else -step / 3), -1.0, 1.0))


def recombined(candidates: np.ndarray) -> np.ndarray:
    """Each position group of candidates (k, n >= 6) with each rotation group: up to k * k paths, the given ones first.

    HeiSD's tree across retrievals, in which the verifier may take position and rotation from different demonstrations.
    """
    k = len(candidates)
    pairs = sorted(((i, j) for i in range(k) for j in range(k)), key=lambda pair: pair[0] != pair[1])
    return np.stack([np.concatenate((candidates[i, :3], candidates[j, 3:])) for i, j in pairs])


def metric(settings: Settings) -> FusedMetric:
    """The kinematic fused metric, empty."""
    return FusedMetric(
        Range(*settings.metric_radius),
        Range(*settings.metric_length),
        settings.metric_window,
        settings.metric_alpha,
        settings.metric_displacement,
    )


def follow_path(fused: FusedMetric, knowledge: Knowledge) -> float:
    """The metric after this step's position; NaN where the arm's position is not known."""
    if not len(knowledge.history):
        fused.clear()
    position = knowledge.history.position()
    return float("nan") if position is None else fused.update(position)
