# SPDX-License-Identifier: Apache-2.0
"""KERV (arXiv 2603.01581, DAC 2026): kinematics rectify Spec-VLA's drafts.

Drafter and tree are Spec-VLA's. At the first token that the verifier rejects, a Kalman filter over the last actions gives the
rest of the action, without another pass; then the filter is off for the next n steps. The radius of acceptance follows the
kinematic variability K_var, how far the drafted action was from the verifier's.
"""

import math

import numpy as np

from vla_sd_ros.decoding.acceptance import Relaxed, radius_of
from vla_sd_ros.decoding.methods.spec_vla import RELEASED_TREE, drafting
from vla_sd_ros.decoding.settings import Settings
from vla_sd_ros.decoding.sources import Knowledge, Source
from vla_sd_ros.decoding.speculative import Method, Outcome, Plan
from vla_sd_ros.kinematics.filters import random_walk
from vla_sd_ros.policy.actions import BINS, ActionStatistics
from vla_sd_ros.policy.draft import Draft
from vla_sd_ros.policy.vla import ACTION_TOKENS

LAST_ID = 31_999  # of OpenVLA's vocabulary: the token of bin 0


class Kerv(Method):
    """As published, but for the threshold's formula, which can only raise r; this one has its limits and its slope:
    r = r_min + (r_max - r_min) exp(-(|dK_var| / K_S)^phi).

    The gripper's token is drafted for K_var's sake, which sums all seven, and stands only if it is the verifier's. A compensation
    repeats the gripper's last command: a filter means nothing there.
    """

    compensation = "kalman"  # a source, and the path where it gives tokens

    def __init__(self, settings: Settings, drafter):
        super().__init__(settings, drafter)
        self._begin()

    def _begin(self) -> None:
        self._cooldown = 0  # steps until the compensation may be used again
        self._variability, self._change = 0.0, 0.0

    def plan(self, knowledge: Knowledge) -> Plan:
        if not len(knowledge.history):
            self._begin()
        radius = self._radius(knowledge)

        def compensate(outcome: Outcome) -> list[int] | None:
            """The verified tokens, of which the last one stands at the position of the error, and the filter's for the rest."""
            decided = outcome.tokens
            if not outcome.rejected or len(decided) == ACTION_TOKENS or self._cooldown:
                return None
            known = knowledge.candidates(self.compensation)
            if not len(known):
                return None
            kept = decided if self._settings.kerv_at_error == "verifier" else decided[:-1]
            return [*kept, *known[0, len(kept) : 6].tolist(), int(knowledge.last_action[0, 6])]

        return Plan(
            "draft",
            drafting(self._drafter, self._settings.tree("kerv"), ACTION_TOKENS),
            Relaxed(radius),
            complete=compensate,
            completed_path=self.compensation,
            threshold=float(radius[0]),
        )

    def learn(self, knowledge: Knowledge, plan: Plan, outcome: Outcome) -> None:
        self._cooldown = self._settings.kerv_cooldown if outcome.completed else max(0, self._cooldown - 1)
        variability = kinematic_variability(outcome.bias, knowledge.vla.statistics)
        self._change, self._variability = variability - self._variability, variability

    def _radius(self, knowledge: Knowledge) -> np.ndarray:
        """(7,) bins, the gripper's 0."""
        s = self._settings
        if s.kerv_mode == "fixed":
            return radius_of(s, knowledge.vla.statistics)
        if s.kerv_mode == "time_decay":
            radius = time_decay(len(knowledge.history), s.kerv_steps, s.kerv_radius_min, s.kerv_radius_max)
        else:
            share = math.exp(-((abs(self._change) / s.kerv_scale) ** s.kerv_exponent))
            radius = s.kerv_radius_min + (s.kerv_radius_max - s.kerv_radius_min) * share
        return np.append(np.full(6, radius), 0.0)


def kinematic_variability(bias: np.ndarray, statistics: ActionStatistics) -> float:
    """K_var, the sum over the seven tokens of || action(correct) - action(error) ||_1 [m, rad, gripper], of biases (7,) bins."""
    span = np.where(statistics.mask, statistics.q99 - statistics.q01, 2.0)
    return float((bias * span).sum() / (BINS - 1))


class KervRepeat(Kerv):
    """The last action in place of the filter: the baseline that the filter has to beat."""

    compensation = "last_action"


class KervReference(Method):
    """KERV as its released code behaves.

    The radius falls with time, in all dimensions, over the suite's number of steps. A random walk on token ids is the filter:
    it repeats the last action. Every fourth step ends after the first tree, whatever was accepted: the verifier's bonus token
    and the first token are dropped, the accepted drafts move one dimension forward, and the filter gives the rest, cut off to
    whole tokens. What the filter remembers of such a step is shifted back by one. Its predictions, rounded to whole tokens, also
    hang as a chain on each node of the tree: the released code has two functions for the two uses.
    """

    EVERY = 4  # steps
    SUITE_STEPS = {"libero_spatial": 170, "libero_object": 240, "libero_goal": 220, "libero_10": 470, "libero_90": 400}

    def __init__(self, settings: Settings, drafter):
        super().__init__(settings, drafter)
        self._filter = TokenFilter()

    def plan(self, knowledge: Knowledge) -> Plan:
        step = len(knowledge.history)
        if not step:
            self._filter = TokenFilter()
        suite = self._settings.suite_of(knowledge.vla.unnorm_key)
        radius = time_decay(step, self.SUITE_STEPS.get(suite, self._settings.kerv_steps), 3.0, 15.0)
        source = drafting(self._drafter, RELEASED_TREE, ACTION_TOKENS)
        if self._filter.known and self._settings.kerv_tails:
            source = KalmanTails(source, bins_of(self._filter.estimate().round()))

        def complete(outcome: Outcome) -> list[int] | None:
            """The released finish, after the pass that follows the prefill."""
            if (step + 1) % self.EVERY or not self._filter.known or len(outcome.passes) < 2:
                return None
            path = outcome.tokens[: 1 + outcome.passes[-1].accepted]
            executed, remembered = finish(ids_of(path), self._filter.estimate())
            self._filter.observe(remembered)
            return bins_of(executed).tolist()

        return Plan(
            "draft", source, Relaxed(np.full(ACTION_TOKENS, radius)), complete=complete, completed_path="kalman", threshold=radius
        )

    def learn(self, knowledge: Knowledge, plan: Plan, outcome: Outcome) -> None:
        if not outcome.completed:
            self._filter.observe(ids_of(outcome.tokens))


class TokenFilter:
    """The released filter: a random walk of each dimension's token id, which begins at the first action."""

    def __init__(self):
        self._kalman = None

    @property
    def known(self) -> bool:
        """Whether it has observed anything."""
        return self._kalman is not None

    def observe(self, ids: np.ndarray) -> None:
        """The tokens (7,) that a step leaves behind."""
        self._kalman = random_walk(ids) if self._kalman is None else self._kalman
        self._kalman.predict()
        self._kalman.update(ids)

    def estimate(self) -> np.ndarray:
        """The next tokens (7,), not rounded."""
        return self._kalman.x[:, 0]


class KalmanTails:
    """A drafter's tree with the filter's prediction (7,) as a chain below each node.

    As released, a node at depth d, counted from the tree's root, is followed by the dimensions d and up.
    """

    def __init__(self, drafts: Source, predicted: np.ndarray):
        self._drafts, self._predicted = drafts, predicted
        self.start, self.follow = drafts.start, drafts.follow

    def propose(self, tokens: list[int]) -> Draft:
        """The drafter's tree and its tails, down to the last token of the action."""
        draft, room = self._drafts.propose(tokens), ACTION_TOKENS - len(tokens)
        bins, parents = draft.bins.tolist(), draft.parents.tolist()
        for node, depth in enumerate(draft.shape.depths.tolist()):
            parent = node
            for token in self._predicted[depth + 1 : room].tolist():
                bins.append(token)
                parents.append(parent)
                parent = len(bins) - 1
        return Draft(np.array(bins, dtype=int), np.array(parents, dtype=int))


def finish(path: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The released completion, in token ids: of the first token and the drafts that were accepted below it (1 + n,), and the
    filter's prediction (7,), what is executed (7,) and what is remembered (7,)."""
    accepted = path[1:]
    executed = np.concatenate((accepted, predicted[len(accepted) :].astype(int)))  # cut off, not rounded
    return executed, np.concatenate((path[:1], executed[:-1]))


def ids_of(bins: list[int]) -> np.ndarray:
    """OpenVLA's token ids (n,) of n bins; the released code computes in these."""
    return LAST_ID - np.array(bins)


def bins_of(ids: np.ndarray) -> np.ndarray:
    """Bins (n,) of whole token ids (n,); ids that are no actions become the nearest that is one."""
    return (LAST_ID - ids).astype(int).clip(0, BINS - 1)


def time_decay(step: int, steps: int, low: float, high: float) -> float:
    """The released KERV's threshold: low + (high - low) exp(-(t / tau)^3), tau = T / (-ln 1e-30)^(1/3)."""
    tau = steps / (-math.log(1e-30)) ** (1 / 3)
    return low + (high - low) * math.exp(-((step / tau) ** 3))
