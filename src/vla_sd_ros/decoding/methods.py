# SPDX-License-Identifier: Apache-2.0
"""The decoders, each as the composition that its paper describes, and the released code's behaviour beside it."""
import math

import numpy as np

from vla_sd_ros.decoding.acceptance import Relaxed, SequenceWise, exact, recombined
from vla_sd_ros.decoding.settings import Settings
from vla_sd_ros.decoding.sources import Knowledge
from vla_sd_ros.decoding.speculative import AUTOREGRESSIVE, DRAFTED_TOKENS, Candidates, Iterated, Likeliest, Outcome, Plan, Session
from vla_sd_ros.kinematics.fused_metric import FusedMetric, Range
from vla_sd_ros.policy.actions import BINS
from vla_sd_ros.policy.vla import ACTION_TOKENS

EXACT = np.zeros(ACTION_TOKENS)
HALF_OPEN = 3 * BINS // 4  # bin of a gripper at 0.5, which is not normalised


class Simple:
    """One plan for all steps, nothing to learn."""

    def plan(self, knowledge: Knowledge) -> Plan:
        raise NotImplementedError

    def learn(self, knowledge: Knowledge, plan: Plan, outcome: Outcome) -> None:
        pass


class Drafted(Simple):
    """Spec-VLA (arXiv 2507.22424): a drafter's tree, relaxed acceptance, redraft. With exact acceptance: naive SD."""

    def __init__(self, settings: Settings, drafter, relaxed: bool):
        self._settings, self._drafter, self._relaxed = settings, drafter, relaxed

    def plan(self, knowledge: Knowledge) -> Plan:
        if not self._relaxed:
            return Plan("draft", drafting(self._drafter, self._settings))
        radius = radius_of(self._settings, knowledge)
        return Plan("draft", drafting(self._drafter, self._settings), Relaxed(radius), threshold=float(radius[0]))


class Kerv:
    """KERV (arXiv 2603.01581): after the first rejection the Kalman filter gives the rest, then rests for n steps itself.

    The threshold follows the kinematic variability K_var, the sum over the step's tokens of the distance of the emitted
    action from the verifier's; dynamic r = r_min + (r_max - r_min) exp(-(|dK_var| / K_S)^phi). The published formula can
    only raise r; this one has its limits and its slope. The gripper repeats its last command: a filter means nothing there.
    """

    def __init__(self, settings: Settings, drafter, repeat: bool = False):
        self._settings, self._drafter, self._repeat = settings, drafter, repeat
        self._rest = 0
        self._variability, self._change = 0.0, 0.0

    def plan(self, knowledge: Knowledge) -> Plan:
        if not len(knowledge.history):
            self._rest, self._variability, self._change = 0, 0.0, 0.0
        radius = self._radius(knowledge)

        def complete(tokens: list[int]) -> list[int] | None:
            known = knowledge.last_action if self._repeat else knowledge.kalman
            if self._rest or not len(known):
                return None
            return [*tokens, *known[0, len(tokens) : 6].tolist(), int(knowledge.last_action[0, 6])]

        return Plan(
            "draft", drafting(self._drafter, self._settings), Relaxed(radius), complete=complete, threshold=float(radius[0]))

    def learn(self, knowledge: Knowledge, plan: Plan, outcome: Outcome) -> None:
        self._rest = self._settings.kerv_cooldown if outcome.completed else max(0, self._rest - 1)
        statistics = knowledge.vla.statistics
        variability = float((outcome.bias[:6] * (statistics.q99 - statistics.q01)[:6]).sum() / (BINS - 1))
        self._change, self._variability = variability - self._variability, variability

    def _radius(self, knowledge: Knowledge) -> np.ndarray:
        """(7,) bins, the gripper's 0."""
        s = self._settings
        if s.kerv_mode == "fixed":
            return radius_of(s, knowledge)
        if s.kerv_mode == "time_decay":
            radius = time_decay(len(knowledge.history), s.kerv_steps, s.kerv_radius_min, s.kerv_radius_max)
        else:
            share = math.exp(-((abs(self._change) / s.kerv_scale) ** s.kerv_exponent))
            radius = s.kerv_radius_min + (s.kerv_radius_max - s.kerv_radius_min) * share
        return np.append(np.full(6, radius), 0.0)


class KervReference(Simple):
    """KERV as its released code behaves: a threshold that falls with time, in all dimensions; a random walk on token ids,
    which repeats the last action, as the filter; used at every fourth step; and the accepted tokens put one dimension early."""

    def __init__(self, settings: Settings, drafter):
        self._settings, self._drafter = settings, drafter

    def plan(self, knowledge: Knowledge) -> Plan:
        step = len(knowledge.history)
        radius = time_decay(step, self._settings.kerv_steps, 3.0, 15.0)

        def complete(tokens: list[int]) -> list[int] | None:
            if not step or step % 4:
                return None
            return [*tokens[1:], *knowledge.last_action[0, len(tokens) - 1 :].tolist()]

        rule = Relaxed(np.full(ACTION_TOKENS, radius))
        return Plan("draft", drafting(self._drafter, self._settings), rule, complete=complete, threshold=radius)


class Heisd:
    """HeiSD (arXiv 2603.17573): retrieval where the arm moves fast and straight, the drafter where it moves slowly.

    Retrieved actions are executed unverified while their similarity is above a threshold that learns from the outcomes
    (verify-skip), and are accepted group by group otherwise. Autoregressive for the first steps.
    """

    WARM_UP = 3  # steps

    def __init__(self, settings: Settings, drafter):
        self._settings, self._drafter = settings, drafter
        self._metric = metric(settings)
        self._gate = SkipGate(settings)

    def plan(self, knowledge: Knowledge) -> Plan:
        value = follow_path(self._metric, knowledge)
        if len(knowledge.history) < self.WARM_UP:
            self._gate.begin()
            return Plan("autoregressive", fused_metric=value)
        retrieved = knowledge.retrieval
        if not len(retrieved) or not value > self._settings.metric_boundary:
            radius = radius_of(self._settings, knowledge)
            return Plan(
                "draft", drafting(self._drafter, self._settings), Relaxed(radius), threshold=float(radius[0]),
                fused_metric=value)
        if self._gate.opens(knowledge):
            return Plan("skip", skip=retrieved[0], fused_metric=value)
        return Plan(
            "retrieval", Candidates(recombined(retrieved) if self._settings.retrieval_recombine else retrieved),
            SequenceWise(self._settings.sequence_largest, self._settings.sequence_total),
            threshold=float(self._settings.sequence_largest), fused_metric=value)

    def learn(self, knowledge: Knowledge, plan: Plan, outcome: Outcome) -> None:
        if plan.path == "retrieval":
            self._gate.learn(outcome)


class HeisdReference(Simple):
    """HeiSD as its released code behaves: two steps of three execute the nearest neighbour's action without the language
    model; the third judges all neighbours by the verifier's opinions on the first one, by looser bounds, and takes the whole
    action from whichever neighbour's position fits first."""

    LARGEST, TOTAL = 24, 44  # below 25 and 45

    def __init__(self, settings: Settings, drafter):
        self._settings, self._drafter = settings, drafter
        self._metric = metric(settings)
        self._turn = 0

    def plan(self, knowledge: Knowledge) -> Plan:
        value = follow_path(self._metric, knowledge)
        if len(knowledge.history) < 3:
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


class RetrievalOnly(Simple):
    """The nearest demonstration's action, never verified; autoregressive where the database knows nothing."""

    def plan(self, knowledge: Knowledge) -> Plan:
        retrieved = knowledge.retrieval
        return Plan("skip", skip=retrieved[0]) if len(retrieved) else AUTOREGRESSIVE


class Prefill(Simple):
    """Ours: what is known before the language model runs is verified inside the prefill; what remains, in the next pass."""

    def __init__(self, settings: Settings, relaxed: bool):
        self._settings, self._relaxed = settings, relaxed

    def plan(self, knowledge: Knowledge) -> Plan:
        radius = radius_of(self._settings, knowledge) if self._relaxed else EXACT
        session = self._session(knowledge, radius)
        if session is None:
            return AUTOREGRESSIVE
        return Plan(
            "prefill", session, Relaxed(radius) if self._relaxed else exact, in_prefill=True, threshold=float(radius[0]))

    def _session(self, knowledge: Knowledge, radius: np.ndarray) -> Session | None:
        s, head = self._settings, knowledge.head_probabilities is not None
        if s.prefill_sources == ["head"] and head and s.head_nodes and not self._relaxed:
            return Likeliest(knowledge.head_probabilities, s.head_nodes, s.head_least)
        candidates = np.concatenate([
            knowledge.head_within(radius)[0][None] if source == "head" and head else knowledge.candidates(source)
            for source in s.prefill_sources])
        return Candidates(candidates) if len(candidates) else None


class Jacobi(Simple):
    """Ours: a whole draft is verified inside the prefill, and every token is the verifier's own, given the draft's before it.

    Jacobi decoding (arXiv 2305.10427; for VLAs PD-VLA, arXiv 2503.02310), whose first guess is a draft and which stops as soon
    as the guess was near enough: a token hardly depends on small errors of those before it, so that the verifier's tokens are
    nearer to autoregressive decoding's than a draft that is accepted as it is. Where the draft is off by more than
    jacobi_radius, another pass follows from there, with what the verifier said as the draft.
    """

    def __init__(self, settings: Settings):
        self._settings = settings

    def plan(self, knowledge: Knowledge) -> Plan:
        drafts = (knowledge.nearest(source) for source in self._settings.prefill_sources)
        known = next((draft for draft in drafts if len(draft)), None)
        if known is None:
            return AUTOREGRESSIVE
        radius = self._settings.jacobi_radius
        return Plan("prefill", Iterated(known), Relaxed(np.full(ACTION_TOKENS, radius)), in_prefill=True, jacobi=True,
                    threshold=radius)


class Fused(Jacobi):
    """Ours, all together: the draft head's action unverified while it is sure of itself, otherwise verified as in
    prefill_jacobi.

    How far a draft may be off follows the kinematics: little while the arm moves slowly, which it does where it matters, more
    while it moves fast, where the next step makes up for it. At most fused_run steps in a row go unverified, and a change of the
    gripper never does.
    """

    def __init__(self, settings: Settings):
        super().__init__(settings)
        self._run = 0

    def plan(self, knowledge: Knowledge) -> Plan:
        action = self._sure(knowledge) if self._run < self._settings.fused_run else None
        self._run = self._run + 1 if action is not None else 0
        return super().plan(knowledge) if action is None else Plan("skip", skip=action)

    def _sure(self, knowledge: Knowledge) -> np.ndarray | None:
        """The draft head's action (7,) if it need not be verified."""
        if knowledge.head_probabilities is None or not len(knowledge.history):
            return None
        action, probability = knowledge.head_within(kinematic_radius(self._settings, knowledge))
        turned = (action[6] >= HALF_OPEN) != (knowledge.last_action[0, 6] >= HALF_OPEN)
        return None if turned or probability[:6].prod() < self._settings.skip_confidence else action


class SkipGate:
    """Verify-skip: whether retrieved actions are near enough to what they were recorded at to be executed unverified.

    The threshold rises when the verifier rejects a retrieved action and falls, a third as fast, when it accepts one. At most
    skip_run steps in a row go unverified, so that the verifier always comes back.
    """

    def __init__(self, settings: Settings):
        self._settings = settings
        self.threshold = settings.skip_similarity
        self._run = 0

    def begin(self) -> None:
        """A new goal: what the verifier said of earlier ones stays learnt."""
        self._run = 0

    def opens(self, knowledge: Knowledge) -> bool:
        near = len(knowledge.retrieval) and knowledge.neighbours.similarity[0] >= self.threshold
        self._run = self._run + 1 if near and self._run < self._settings.skip_run else 0
        return self._run > 0

    def learn(self, outcome: Outcome) -> None:
        step = self._settings.skip_adjustment
        self.threshold = float(np.clip(self.threshold + (step if outcome.rejected else -step / 3), -1.0, 1.0))


def drafting(drafter, settings: Settings) -> Session:
    """A drafter's session for one step."""
    return drafter.session(settings.drafter_nodes, settings.drafter_depth, settings.drafter_top_k, DRAFTED_TOKENS)


def radius_of(settings: Settings, knowledge: Knowledge) -> np.ndarray:
    """The radius (7,) of relaxed acceptance in bins; the gripper's is 0."""
    statistics = knowledge.vla.statistics
    per_bin = (statistics.q99 - statistics.q01)[:6] / (BINS - 1)
    physical = np.repeat([settings.relaxed_translation, settings.relaxed_rotation], 3)
    return np.append(np.where(physical > 0, physical / np.maximum(per_bin, 1e-12), settings.relaxed_radius), 0.0)


def kinematic_radius(settings: Settings, knowledge: Knowledge) -> np.ndarray:
    """The radius (7,) of fused in bins, which rises with the length of the head's translation; the gripper's is 0."""
    s = settings
    draft = knowledge.nearest("head")[0]
    length = float(np.linalg.norm(knowledge.vla.action(draft)[:3]))
    radius = s.fused_radius_min + (s.fused_radius_max - s.fused_radius_min) * min(1.0, length / s.fused_translation)
    return np.append(np.full(6, np.floor(radius)), 0.0)


def metric(settings: Settings) -> FusedMetric:
    return FusedMetric(
        Range(*settings.metric_radius), Range(*settings.metric_length), settings.metric_window, settings.metric_alpha,
        settings.metric_displacement)


def follow_path(fused: FusedMetric, knowledge: Knowledge) -> float:
    """The metric after this step's position; NaN where the arm's position is not known."""
    if not len(knowledge.history):
        fused.clear()
    position = knowledge.history.position()
    return float("nan") if position is None else fused.update(position)


def time_decay(step: int, steps: int, low: float, high: float) -> float:
    """The released KERV's threshold: low + (high - low) exp(-(t / tau)^3), tau = T / (-ln 1e-30)^(1/3)."""
    tau = steps / (-math.log(1e-30)) ** (1 / 3)
    return low + (high - low) * math.exp(-((step / tau) ** 3))

