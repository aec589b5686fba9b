# SPDX-License-Identifier: Apache-2.0
"""HeiSD (arXiv 2603.17573): retrieval where the arm moves fast and straight, Spec-VLA's drafter where it moves slowly.

The kinematic fused metric of the end effector's path chooses. Where it retrieves, the nearest demonstration's action is
executed without verification while its similarity is above a threshold that learns from the outcomes (verify-skip); otherwise
the verifier judges the nearest K as one tree and accepts position, rotation and gripper as wholes (sequence-wise acceptance).
"""
import numpy as np

from vla_sd_ros.decoding.acceptance import Relaxed, SequenceWise, radius_of
from vla_sd_ros.decoding.methods.spec_vla import drafted, drafting
from vla_sd_ros.decoding.settings import Settings
from vla_sd_ros.decoding.sources import Candidates, Knowledge
from vla_sd_ros.decoding.speculative import AUTOREGRESSIVE, Method, Outcome, Plan
from vla_sd_ros.kinematics.fused_metric import FusedMetric, Range
from vla_sd_ros.policy.vla import ACTION_TOKENS

FIRST_STEPS = 3  # decoded autoregressively: there is no path yet


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
            return drafted(self._drafter, s, radius_of(s, knowledge.vla.statistics), fused_metric=value)
        if self._gate.opens(knowledge):
            return Plan("skip", skip=retrieved[0], fused_metric=value)
        return Plan(
            "retrieval", Candidates(recombined(retrieved) if s.retrieval_recombine else retrieved),
            SequenceWise(s.sequence_largest, s.sequence_total), threshold=float(s.sequence_largest), fused_metric=value)

    def learn(self, knowledge: Knowledge, plan: Plan, outcome: Outcome) -> None:
        if plan.path == "retrieval":
            self._gate.learn(outcome)


class HeisdReference(Method):
    """HeiSD as its released code behaves: two steps of three execute the nearest neighbour's action without the language
    model; the third judges all neighbours by the verifier's opinions on the first one, by looser bounds, and takes the whole
    action from whichever neighbour's position fits first."""

    LARGEST, TOTAL = 24, 44  # below 25 and 45

    def __init__(self, settings: Settings, drafter):
        super().__init__(settings, drafter)
        self._metric = metric(settings)
        self._turn = 0

    def plan(self, knowledge: Knowledge) -> Plan:
        value = follow_path(self._metric, knowledge)
        if len(knowledge.history) < FIRST_STEPS:
            self._turn = 0
            return Plan("autoregressive", fused_metric=value)
        retrieved = knowledge.retrieval
        if not len(retrieved) or not value > self._settings.metric_boundary:
            radius = np.full(ACTION_TOKENS, self._settings.relaxed_radius)
            return Plan("draft", drafting(self._drafter, self._settings), Relaxed(radius), fused_metric=value)
        self._turn += 1
        if self._turn % 3:
            return Plan("skip", skip=retrieved[0], fused_metric=value)
        return Plan("retrieval", Candidates(retrieved), self._rule, in_prefill=True, fused_metric=value)

    def _rule(self, drafted: np.ndarray, verified: np.ndarray, first: int) -> np.ndarray:
        bias = np.abs(drafted - verified[0])[:, :3]  # the first chain's opinions, whatever chain is judged
        fits = (bias.sum(1) <= self.TOTAL) & (bias.max(1) <= self.LARGEST) & (first == 0)
        return np.where(np.arange(len(fits)) == fits.argmax(), fits * drafted.shape[1], 0)


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
        Range(*settings.metric_radius), Range(*settings.metric_length), settings.metric_window, settings.metric_alpha,
        settings.metric_displacement)


def follow_path(fused: FusedMetric, knowledge: Knowledge) -> float:
    """The metric after this step's position; NaN where the arm's position is not known."""
    if not len(knowledge.history):
        fused.clear()
    position = knowledge.history.position()
    return float("nan") if position is None else fused.update(position)
