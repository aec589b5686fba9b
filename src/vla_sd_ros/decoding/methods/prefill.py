# SPDX-License-Identifier: Apache-2.0
"""Ours: what is known before the language model runs is appended to the prompt, and the prefill itself verifies it.

The first pass has to read the prompt anyway, and a few positions more cost next to nothing beside it. When all six drafted
tokens stand, the seventh is the verifier's own and the action has cost one pass; otherwise the rest of the draft goes into
the next pass.
"""

import numpy as np

from vla_sd_ros.decoding.acceptance import Relaxed, exact, radius_of
from vla_sd_ros.decoding.settings import Settings
from vla_sd_ros.decoding.sources import Candidates, Iterated, Knowledge, Likeliest, Source
from vla_sd_ros.decoding.speculative import AUTOREGRESSIVE, Method, Plan
from vla_sd_ros.policy.vla import ACTION_TOKENS


class Prefill(Method):
    """With exact acceptance: the tokens are those of autoregressive decoding."""

    def plan(self, knowledge: Knowledge) -> Plan:
        s = self._settings
        source: Source | None
        if s.prefill_sources == ["head"] and s.head_nodes and knowledge.head_marginals is not None:
            source = Likeliest(knowledge.head_marginals.probabilities, s.head_nodes, s.head_least)
        else:
            source = merged(s, knowledge, np.zeros(ACTION_TOKENS))
        return AUTOREGRESSIVE if source is None else Plan("prefill", source, exact, in_prefill=True)


class PrefillRelaxed(Prefill):
    """With relaxed acceptance."""

    def plan(self, knowledge: Knowledge) -> Plan:
        radius = radius_of(self._settings, knowledge.vla.statistics)
        source = merged(self._settings, knowledge, radius)
        if source is None:
            return AUTOREGRESSIVE
        return Plan("prefill", source, Relaxed(radius), in_prefill=True, threshold=float(radius[0]))


class PrefillJacobi(Method):
    """A whole draft is verified inside the prefill, and every token is the verifier's own, given the draft's before it.

    Jacobi decoding (arXiv 2305.10427; for VLAs PD-VLA, arXiv 2503.02310), whose first guess is a draft and which stops as soon
    as the guess was near enough: a token hardly depends on small errors of those before it, so that the verifier's tokens are
    nearer to autoregressive decoding's than a draft that is accepted as it is. Where the draft is off by more than
    jacobi_radius, another pass follows from there, with what the verifier said as the draft.
    """

    def plan(self, knowledge: Knowledge) -> Plan:
        drafts = (knowledge.nearest(source) for source in self._settings.prefill_sources)
        known = next((draft for draft in drafts if len(draft)), None)
        if known is None:
            return AUTOREGRESSIVE
        radius = self._settings.jacobi_radius
        return Plan(
            "prefill", Iterated(known), Relaxed(np.full(ACTION_TOKENS, radius)), in_prefill=True, jacobi=True, threshold=radius
        )


def merged(settings: Settings, knowledge: Knowledge, radius: np.ndarray) -> Source | None:
    """All that prefill_sources know as one tree, for acceptance within radius (7,) bins; None where they know nothing."""
    candidates = np.concatenate([knowledge.candidates_within(source, radius) for source in settings.prefill_sources])
    return Candidates(candidates) if len(candidates) else None
