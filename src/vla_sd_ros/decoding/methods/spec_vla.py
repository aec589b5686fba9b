# SPDX-License-Identifier: Apache-2.0
"""Spec-VLA (Wang et al., EMNLP 2025, arXiv 2507.22424): a drafter's tree, verified in one pass, with relaxed acceptance.

The prefill decides the first token. The drafter, one decoder layer over the verifier's own hidden states, grows a tree of the
most probable continuations below it; one pass of the verifier judges the whole tree; the longest path stands on which each
token is within r = 9 bins of the verifier's; the verifier adds one token; and the drafter goes on from there.
"""
import numpy as np

from vla_sd_ros.decoding.acceptance import Relaxed, exact, radius_of
from vla_sd_ros.decoding.settings import Settings
from vla_sd_ros.decoding.sources import DRAFTED_TOKENS, Knowledge, Source
from vla_sd_ros.decoding.speculative import Method, Plan

RELEASED_TREE = {"drafter_nodes": 50, "drafter_depth": 5, "drafter_top_k": 8}


class SpecVla(Method):
    """With relaxed acceptance as published."""

    def plan(self, knowledge: Knowledge) -> Plan:
        radius = radius_of(self._settings, knowledge.vla.statistics)
        return drafted(self._drafter, self._settings, radius)


class NaiveSd(SpecVla):
    """With exact acceptance: the tokens are those of autoregressive decoding."""

    def plan(self, knowledge: Knowledge) -> Plan:
        return Plan("draft", drafting(self._drafter, self._settings), exact)


def drafted(drafter, settings: Settings, radius: np.ndarray, **reported) -> Plan:
    """Spec-VLA's plan for one step, with a radius (7,) in bins; reported: what else DecodeStep shall say."""
    return Plan("draft", drafting(drafter, settings), Relaxed(radius), threshold=float(radius[0]), **reported)


def drafting(drafter, settings: Settings, tokens: int = DRAFTED_TOKENS) -> Source:
    """The drafter's trees for one action, of which at most `tokens` tokens are drafted."""
    return drafter.session(settings.drafter_nodes, settings.drafter_depth, settings.drafter_top_k, tokens)
