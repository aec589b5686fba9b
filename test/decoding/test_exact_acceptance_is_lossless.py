# SPDX-License-Identifier: Apache-2.0
"""Under exact acceptance a decoder emits the very tokens of plain autoregressive decoding, whatever its drafts are."""

import numpy as np
import pytest

from vla_sd_ros.decoding import factory
from vla_sd_ros.decoding.acceptance import exact
from vla_sd_ros.decoding.methods.heisd import recombined
from vla_sd_ros.decoding.settings import Settings
from vla_sd_ros.decoding.sources import Candidates
from vla_sd_ros.decoding.speculative import Method, Plan, Speculative

OBSERVATIONS = 500
INSTRUCTION = "pick up the milk and place it in the basket"


@pytest.fixture(scope="module")
def expected(vla, observations):
    """What plain decoding decides on each observation: asked once, whatever is compared with it."""
    plain = factory.make("autoregressive", vla)
    return [plain.decide(image, INSTRUCTION) for image, _ in observations(vla, OBSERVATIONS)]


@pytest.mark.parametrize("sources", [["last_action"], ["kalman"], ["head"], ["last_action", "kalman", "head"], ["composite"]])
def test_prefill(vla, observations, expected, sources):
    ours = factory.make("prefill", vla, Settings(prefill_sources=sources))
    for (image, history), plain in zip(observations(vla, OBSERVATIONS), expected, strict=True):
        decision = ours.decide(image, INSTRUCTION, history)
        assert np.array_equal(decision.bins, plain.bins) and np.array_equal(decision.action, plain.action)


@pytest.mark.parametrize("sources", [["last_action"], ["kalman"], ["head"]])
def test_jacobi_with_no_radius(vla, observations, expected, sources):
    ours = factory.make("prefill_jacobi", vla, Settings(prefill_sources=sources, jacobi_radius=0.0))
    for (image, history), plain in zip(observations(vla, OBSERVATIONS), expected, strict=True):
        assert np.array_equal(ours.decide(image, INSTRUCTION, history).bins, plain.bins)


@pytest.mark.parametrize("nodes", [1, 20])
def test_a_tree_of_the_draft_heads_likeliest_actions(vla, observations, expected, nodes):
    ours = factory.make("prefill", vla, Settings(head_nodes=nodes))
    for (image, history), plain in zip(observations(vla, 100), expected):
        assert np.array_equal(ours.decide(image, INSTRUCTION, history).bins, plain.bins)


class Oracle(Method):
    """Drafts that are right for some dimensions, among others that are wrong, as one tree."""

    def __init__(self, rng):
        self.rng, self.right, self.correct = rng, None, 0

    def plan(self, knowledge):
        chains = np.tile(self.right, (3, 1))
        self.correct = self.rng.integers(0, 7)
        chains[:, self.correct :] += self.rng.integers(1, 200, chains[:, self.correct :].shape)
        return Plan("oracle", Candidates(recombined(chains % 256)), exact, in_prefill=bool(self.rng.integers(2)))


def test_trees_of_any_quality(vla, observations):
    plain, method = factory.make("autoregressive", vla), Oracle(np.random.default_rng(1))
    decoder = Speculative("oracle", vla, method, Settings())
    for image, history in observations(vla, OBSERVATIONS, seed=2):
        method.right = plain.decide(image, INSTRUCTION).bins
        decision = decoder.decide(image, INSTRUCTION, history)
        assert np.array_equal(decision.bins, method.right)
        assert decision.accepted_length >= min(method.correct, 6) - 1
        assert sum(r.accepted for r in decision.passes) + decision.forward_passes - ("extend" == decision.passes[0].kind) == 7


def test_a_draft_that_is_right_costs_one_pass(vla, observations):
    plain, method = factory.make("autoregressive", vla), Oracle(np.random.default_rng(1))
    method.plan = lambda knowledge: Plan("oracle", Candidates(method.right[None]), exact, in_prefill=True)
    for image, history in observations(vla, 20):
        method.right = plain.decide(image, INSTRUCTION).bins
        decision = Speculative("oracle", vla, method, Settings()).decide(image, INSTRUCTION, history)
        assert decision.forward_passes == 1 and decision.accepted_length == 6
