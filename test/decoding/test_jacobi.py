# SPDX-License-Identifier: Apache-2.0
"""prefill_jacobi emits the verifier's tokens under the draft, in one pass within jacobi_radius, and goes on where it is missed."""

import numpy as np
import pytest

from vla_sd_ros.decoding import factory
from vla_sd_ros.decoding.acceptance import Relaxed
from vla_sd_ros.decoding.settings import Settings
from vla_sd_ros.decoding.sources import Iterated
from vla_sd_ros.decoding.speculative import Method, Plan, Speculative
from vla_sd_ros.policy.draft import chain

INSTRUCTION = "pick up the milk and place it in the basket"


class Drafted(Method):
    """The draft that the test gives."""

    def __init__(self, radius: float):
        self.radius, self.draft = radius, None

    def plan(self, knowledge):
        rule = Relaxed(np.full(7, self.radius))
        return Plan("prefill", Iterated(self.draft[None]), rule, in_prefill=True, jacobi=True)


def test_any_radius_is_one_pass_of_the_verifiers_own_tokens(vla, observations):
    method, rng = Drafted(255.0), np.random.default_rng(0)
    for image, _ in observations(vla, 50):
        method.draft = rng.integers(0, 256, 7)
        decision = Speculative("jacobi", vla, method, Settings()).decide(image, INSTRUCTION)
        said = vla.prefill(vla.observe(image, INSTRUCTION), chain(method.draft[:6])).greedy()
        assert np.array_equal(decision.bins, said) and decision.forward_passes == 1


def one_by_one(vla, image, draft: np.ndarray, radius: float) -> list[int]:
    """The same by brute force: a whole prefill for every token."""
    prompt, context, tokens = vla.observe(image, INSTRUCTION), [], []
    guess = draft.tolist()
    while len(tokens) < 7:
        first, said = len(tokens), []
        for place in range(first, 7):  # what the verifier says of each place, after the guess so far
            said.append(int(vla.prefill(prompt, chain([*context, *guess[first:place]])).greedy()[-1]))
        near = [abs(g - s) <= radius for g, s in zip(guess[first:6], said)]
        stands = near.index(False) if False in near else len(near)
        tokens += said[: stands + 1]
        context += [*guess[first : first + stands], said[stands]]
        guess[first:] = said
    return tokens


@pytest.mark.parametrize("radius", [0.0, 10.0, 60.0, 255.0])
def test_it_agrees_with_brute_force(vla, observations, radius):
    method, rng = Drafted(radius), np.random.default_rng(1)
    plain = factory.make("autoregressive", vla)
    for image, _ in observations(vla, 20, seed=3):
        near = plain.decide(image, INSTRUCTION).bins + rng.integers(-30, 31, 7)
        method.draft = np.clip(near, 0, 255)
        decision = Speculative("jacobi", vla, method, Settings()).decide(image, INSTRUCTION)
        assert decision.bins.tolist() == one_by_one(vla, image, method.draft, radius)


def test_a_draft_that_was_revised_is_the_next_ones_beginning(vla):
    session = Iterated(np.arange(7)[None])
    session.revise(2, np.array([50, 60, 70]))
    assert session.propose([1, 2]).bins.tolist() == [50, 60, 70, 5]
