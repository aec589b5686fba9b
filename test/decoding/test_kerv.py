# SPDX-License-Identifier: Apache-2.0
"""KERV's compensation keeps each dimension in its place, rests after use, and its threshold stays within its limits."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_sd_ros.decoding import factory
from vla_sd_ros.decoding.history import History
from vla_sd_ros.decoding.methods.kerv import Kerv, kinematic_variability, time_decay
from vla_sd_ros.decoding.settings import Settings
from vla_sd_ros.decoding.sources import Candidates
from vla_sd_ros.decoding.speculative import Outcome
from vla_sd_ros.policy.draft import EMPTY, merge

INSTRUCTION = "pick up the milk and place it in the basket"
LAST = np.array([200, 201, 202, 203, 204, 205, 206])


class Whole(Candidates):
    """Drafts the gripper's token, too, as a drafter can."""

    def propose(self, tokens):
        return merge(self._bins[:, len(tokens) :]) if len(tokens) < 7 else EMPTY


class Scripted:
    """Stands where a drafter stands: proposes `right` tokens of the verifier's own and then wrong ones."""

    def __init__(self, vla, source=Candidates):
        self.plain, self.right, self.image, self.source = factory.make("autoregressive", vla), 0, None, source

    def session(self, nodes, depth, top_k, tokens):
        draft = self.plain.decide(self.image, INSTRUCTION).bins
        self.tree, self.tokens = (nodes, depth, top_k), tokens
        draft[self.right :] = (draft[self.right :] + 128) % 256
        return self.source(draft[None])


def history_of(vla, steps: int, bins=LAST) -> History:
    history = History(vla.statistics)
    for _ in range(steps):
        history.see(None)
        history.record(bins)
    history.see(None)
    return history


REPEAT = Settings(kalman_decay=[1.0] * 6, kalman_measurement=0.0, relaxed_radius=0.0, kerv_mode="fixed")


@given(right=st.integers(1, 5), seed=st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_each_dimension_keeps_its_place(vla, right, seed):
    drafter = Scripted(vla)
    drafter.right, drafter.image = right, np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)
    plain = drafter.plain.decide(drafter.image, INSTRUCTION).bins
    decision = factory.make("kerv", vla, REPEAT, drafter).decide(drafter.image, INSTRUCTION, history_of(vla, 3))
    # dimension 0 from the prefill, the drafts that stand, the verifier's token where the first one does not, the filter's rest
    assert decision.bins.tolist() == [*plain[: right + 1], *LAST[right + 1 :]]
    assert decision.path == "kalman" and decision.forward_passes == 2
    filtered = factory.make("kerv", vla, replace(REPEAT, kerv_at_error="filter"), drafter)
    decision = filtered.decide(drafter.image, INSTRUCTION, history_of(vla, 3))
    assert decision.bins.tolist() == [*plain[:right], *LAST[right:]] and decision.path == "kalman"


def test_the_path_says_what_the_rest_was_taken_from(vla):
    drafter = Scripted(vla)
    drafter.right, drafter.image = 2, np.zeros((32, 32, 3), np.uint8)
    paths = [
        factory.make(name, vla, REPEAT, drafter).decide(drafter.image, INSTRUCTION, history_of(vla, 3)).path
        for name in ("kerv", "kerv_repeat")
    ]
    assert paths == ["kalman", "last_action"]


def test_nothing_is_compensated_where_nothing_was_rejected(vla):
    drafter = Scripted(vla)
    drafter.right, drafter.image = 6, np.zeros((32, 32, 3), np.uint8)
    decision = factory.make("kerv", vla, REPEAT, drafter).decide(drafter.image, INSTRUCTION, history_of(vla, 3))
    assert decision.path == "draft" and decision.accepted_length == 5


def test_after_a_compensation_the_filter_rests(vla):
    drafter = Scripted(vla)
    drafter.image = np.zeros((32, 32, 3), np.uint8)
    decoder, history = factory.make("kerv", vla, REPEAT, drafter), history_of(vla, 3)
    paths = []
    for _ in range(11):
        decision = decoder.decide(drafter.image, INSTRUCTION, history)
        history.record(decision.bins)
        history.see(None)
        paths.append(decision.path)
    assert paths == (["kalman"] + ["draft"] * 4) * 2 + ["kalman"]


def test_the_first_step_has_nothing_to_compensate_with(vla):
    drafter = Scripted(vla)
    drafter.image = np.zeros((32, 32, 3), np.uint8)
    decision = factory.make("kerv", vla, REPEAT, drafter).decide(drafter.image, INSTRUCTION, history_of(vla, 0))
    assert decision.path == "draft" and np.array_equal(decision.bins, drafter.plain.decide(drafter.image, INSTRUCTION).bins)


@given(biases=st.lists(st.lists(st.integers(0, 255), min_size=7, max_size=7), min_size=1, max_size=8))
@settings(deadline=None)
def test_the_dynamic_threshold_stays_within_its_limits(vla, biases):
    method = Kerv(Settings(), Scripted(vla))

    class Knowledge:
        pass

    knowledge = Knowledge()
    knowledge.vla, knowledge.history = vla, history_of(vla, 1)
    for bias in biases:
        method.learn(knowledge, None, Outcome(bias=np.array(bias)))
        radius = method._radius(knowledge)
        assert np.all((radius[:6] >= 5.0) & (radius[:6] <= 15.0)) and radius[6] == 0.0


def test_the_threshold_falls_when_the_variability_jumps(vla):
    method = Kerv(Settings(kerv_scale=0.01), Scripted(vla))

    class Knowledge:
        pass

    knowledge = Knowledge()
    knowledge.vla, knowledge.history = vla, history_of(vla, 1)
    assert method._radius(knowledge)[0] == pytest.approx(15.0)
    method.learn(knowledge, None, Outcome(bias=np.full(7, 100)))
    assert method._radius(knowledge)[0] == pytest.approx(5.0, abs=0.1)


def test_the_variability_sums_all_seven_tokens_of_the_drafted_action(vla):
    statistics = vla.statistics
    bias = np.arange(1, 8)
    span = np.append((statistics.q99 - statistics.q01)[:6], 2.0)  # the gripper's token is -1 .. 1 as it is
    assert kinematic_variability(bias, statistics) == pytest.approx((bias * span).sum() / 255)


def test_what_was_rejected_counts_as_what_was_accepted(vla):
    """Until another pass judges it anew: with a completion none does."""
    drafter = Scripted(vla)
    drafter.right, drafter.image = 2, np.zeros((32, 32, 3), np.uint8)
    decoder, seen = factory.make("kerv", vla, REPEAT, drafter), []
    decoder._method.learn = lambda knowledge, plan, outcome: seen.append(outcome)
    decoder.decide(drafter.image, INSTRUCTION, history_of(vla, 3))
    assert seen[0].completed and seen[0].bias[:2].tolist() == [0, 0] and seen[0].bias[2] == 128
    assert (seen[0].bias[3:6] > 0).any()


def test_the_grippers_token_is_drafted_and_counts_too(vla):
    """As in the released code; but it stands only if it is the verifier's, and its error is none to compensate for."""
    drafter = Scripted(vla, Whole)
    drafter.right, drafter.image = 6, np.zeros((32, 32, 3), np.uint8)
    decoder, seen = factory.make("kerv", vla, replace(REPEAT, relaxed_radius=255.0), drafter), []
    decoder._method.learn = lambda knowledge, plan, outcome: seen.append(outcome)
    decision = decoder.decide(drafter.image, INSTRUCTION, history_of(vla, 3))
    assert drafter.tokens == 7 and seen[0].bias.tolist() == [0, 0, 0, 0, 0, 0, 128] and not seen[0].completed
    assert np.array_equal(decision.bins, drafter.plain.decide(drafter.image, INSTRUCTION).bins)
    assert kinematic_variability(seen[0].bias, vla.statistics) == pytest.approx(128 * 2.0 / 255)


@pytest.mark.parametrize("name", ["kerv", "kerv_repeat", "spec_vla", "naive_sd"])
def test_each_decoder_has_its_own_tree(vla, name):
    drafter = Scripted(vla)
    drafter.image = np.zeros((32, 32, 3), np.uint8)
    trees = {"kerv_tree": [6, 5, 1], "spec_vla_tree": [12, 5, 2], "naive_sd_tree": [20, 3, 8]}
    factory.make(name, vla, Settings(**trees), drafter).decide(drafter.image, INSTRUCTION, history_of(vla, 3))
    assert list(drafter.tree) == trees[name.removesuffix("_repeat") + "_tree"]


def test_the_released_time_decay():
    assert time_decay(0, 300, 3.0, 15.0) == 15.0
    assert time_decay(300, 300, 3.0, 15.0) == pytest.approx(3.0)
    assert time_decay(100, 300, 3.0, 15.0) == pytest.approx(3 + 12 * np.exp(-((100 / 300) ** 3) * 69.0776), rel=1e-4)
