# SPDX-License-Identifier: Apache-2.0
"""KERV (arXiv 2603.01581, DAC 2026): kinematics rectify Spec-VLA's drafts.

Drafter and tree are Spec-VLA's. At the first token that the verifier rejects, a Kalman filter over the last actions gives the
rest of the action, without another pass; then the filter is off for the next n steps. The radius of acceptance follows the
kinematic variability K_var, how far the emitted action was from the verifier's.
"""
import math

import numpy as np

from vla_sd_ros.decoding.acceptance import Relaxed, radius_of
from vla_sd_ros.decoding.settings import Settings
from vla_sd_ros.decoding.sources import Knowledge
from vla_sd_ros.decoding.speculative import Method, Outcome, Plan
from vla_sd_ros.decoding.methods.spec_vla import drafting
from vla_sd_ros.policy.actions import BINS
from vla_sd_ros.policy.vla import ACTION_TOKENS


class Kerv(Method):
    """As published, but for the threshold's formula, which can only raise r; this one has its limits and its slope:
    r = r_min + (r_max - r_min) exp(-(|dK_var| / K_S)^phi).

    The gripper repeats its last command: a filter means nothing there.
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
            """The verified tokens, and the filter's in place of the rest."""
            decided = outcome.tokens
            if not outcome.rejected or len(decided) == ACTION_TOKENS or self._cooldown:
                return None
            known = knowledge.candidates(self.compensation)
            if not len(known):
                return None
            return [*decided, *known[0, len(decided) : 6].tolist(), int(knowledge.last_action[0, 6])]

        return Plan("draft", drafting(self._drafter, self._settings), Relaxed(radius), complete=compensate,
                    completed_path=self.compensation, threshold=float(radius[0]))

    def learn(self, knowledge: Knowledge, plan: Plan, outcome: Outcome) -> None:
        self._cooldown = self._settings.kerv_cooldown if outcome.completed else max(0, self._cooldown - 1)
        statistics = knowledge.vla.statistics
        variability = float((outcome.bias[:6] * (statistics.q99 - statistics.q01)[:6]).sum() / (BINS - 1))
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


class KervRepeat(Kerv):
    """The last action in place of the filter: the baseline that the filter has to beat."""

    compensation = "last_action"


class KervReference(Method):
    """KERV as its released code behaves: a threshold that falls with time, in all dimensions; a random walk on token ids,
    which repeats the last action, as the filter; used at every fourth step; and the accepted tokens put one dimension early."""

    def plan(self, knowledge: Knowledge) -> Plan:
        step = len(knowledge.history)
        radius = time_decay(step, self._settings.kerv_steps, 3.0, 15.0)

        def complete(outcome: Outcome) -> list[int] | None:
            if not outcome.rejected or not step or step % 4 or len(outcome.tokens) == ACTION_TOKENS:
                return None
            tokens = outcome.tokens
            return [*tokens[1:], *knowledge.last_action[0, len(tokens) - 1 :].tolist()]

        return Plan("draft", drafting(self._drafter, self._settings), Relaxed(np.full(ACTION_TOKENS, radius)), complete=complete,
                    completed_path="kalman", threshold=radius)


def time_decay(step: int, steps: int, low: float, high: float) -> float:
    """The released KERV's threshold: low + (high - low) exp(-(t / tau)^3), tau = T / (-ln 1e-30)^(1/3)."""
    tau = steps / (-math.log(1e-30)) ** (1 / 3)
    return low + (high - low) * math.exp(-((step / tau) ** 3))
