# SPDX-License-Identifier: Apache-2.0
"""Spec-VLA (Wang et al., EMNLP 2025, arXiv 2507.22424): a drafter's tree, verified in one pass, with relaxed acceptance.

The prefill decides the first token. The drafter, one decoder layer over the verifier's own hidden states, grows a tree of the
most probable continuations below it; one pass of the verifier judges the whole tree; the longest path stands on which each
token is within r = 9 bins of the verifier's; the verifier adds one token; and the drafter goes on from there.
"""

import numpy as np

from vla_sd_ros.decoding.acceptance import Relaxed, exact, radius_of
from vla_sd_ros.decoding.sources import DRAFTED_TOKENS, Knowledge, Source
from vla_sd_ros.decoding.speculative import Method, Plan

RELEASED_TREE = (50, 5, 8)  # nodes, levels, continuations: Spec-VLA's and KERV's code counts the levels after the first, 4


class SpecVla(Method):
    """With relaxed acceptance as published."""

    tree = "spec_vla"  # whose tree the drafter grows

    def plan(self, knowledge: Knowledge) -> Plan:
        return drafted(self._drafter, self._settings.tree(self.tree), radius_of(self._settings, knowledge.vla.statistics))


class NaiveSd(SpecVla):
    """With exact acceptance: the tokens are those of autoregressive decoding."""

    tree = "naive_sd"

    def plan(self, knowledge: Knowledge) -> Plan:
        return Plan("draft", drafting(self._drafter, self._settings.tree(self.tree)), exact)


def drafted(drafter, tree: tuple[int, int, int], radius: np.ndarray, **reported) -> Plan:
    """Spec-VLA's plan for one step, with a radius (7,) in bins; reported: what else DecodeStep shall say."""
    return Plan("draft", drafting(drafter, tree), Relaxed(radius), threshold=float(radius[0]), **reported)


def drafting(drafter, tree: tuple[int, int, int], tokens: int = DRAFTED_TOKENS) -> Source:
    """The drafter's trees (nodes, levels, continuations) for one action, of which at most `tokens` tokens are drafted."""
    return drafter.session(*tree, tokens)
