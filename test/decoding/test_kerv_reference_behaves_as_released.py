# SPDX-License-Identifier: Apache-2.0
"""kerv_reference gives what KERV's released code gave for the same inputs: filter, threshold, completion, and its rhythm."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from test_kerv import INSTRUCTION, Scripted

from vla_sd_ros.decoding import factory
from vla_sd_ros.decoding.decision import PassRecord
from vla_sd_ros.decoding.history import History
from vla_sd_ros.decoding.methods.kerv import KalmanTails, KervReference, TokenFilter, bins_of, finish, ids_of, time_decay
from vla_sd_ros.decoding.settings import SUITES, Settings
from vla_sd_ros.decoding.sources import Candidates
from vla_sd_ros.decoding.speculative import Outcome
from vla_sd_ros.policy import drafter as drafters
from vla_sd_ros.policy.vla import MAX_DRAFT_NODES

GOLDEN = json.loads((Path(__file__).parent / "golden" / "kerv.json").read_text())
IMAGE = np.zeros((32, 32, 3), np.uint8)


def filter_after(rows) -> TokenFilter:
    filter = TokenFilter()
    for row in rows:
        filter.observe(np.array(row))
    return filter


@pytest.mark.parametrize("case", GOLDEN["filter"])
def test_the_filter(case):
    estimate = filter_after([[token] * 7 for token in case["history"]]).estimate()
    np.testing.assert_allclose(estimate, case["predicted"], rtol=0, atol=1e-7)


@pytest.mark.parametrize("steps", GOLDEN["threshold"])
def test_the_threshold(steps):
    for step, radius in GOLDEN["threshold"][steps].items():
        assert time_decay(int(step), int(steps), 3.0, 15.0) == pytest.approx(radius, abs=1e-9)


@pytest.mark.parametrize("case", GOLDEN["completion"])
def test_the_completion(case):
    path = np.array(case["tree_path_from_root"])[: 1 + case["accepted_length"]]
    executed, remembered = finish(path, filter_after(case["history"]).estimate())
    assert executed.tolist() == case["executed"] and remembered.tolist() == case["remembered"]


@pytest.mark.parametrize("accepted", range(6))
def test_what_is_remembered_is_what_is_executed_one_dimension_late(accepted):
    rng = np.random.default_rng(accepted)
    path, predicted = rng.integers(31744, 32000, 1 + accepted), rng.uniform(31744, 31999, 7)
    executed, remembered = finish(path, predicted)
    assert executed[:accepted].tolist() == path[1:].tolist()  # one dimension early
    assert executed[accepted:].tolist() == np.floor(predicted[accepted:]).tolist()  # cut off, never rounded
    assert remembered.tolist() == [path[0], *executed[:6]]


def test_token_ids_and_bins():
    assert ids_of([0, 255]).tolist() == [31999, 31744]
    assert bins_of(np.array([31999.0, 31744.0, 31000.0])).tolist() == [0, 255, 255]


def run(vla, steps: int, right: int, **settings):
    """Decisions of a goal whose drafts have `right` of the verifier's tokens, and the verifier's own action."""
    drafter = Scripted(vla)
    drafter.right, drafter.image = right, IMAGE
    decoder = factory.make("kerv_reference", vla, Settings(**settings), drafter)
    history, decisions = History(vla.statistics), []
    for _ in range(steps):
        history.see(None)
        decisions.append(decoder.decide(IMAGE, INSTRUCTION, history))
        history.record(decisions[-1].bins)
    assert (drafter.tree, drafter.tokens) == ((50, 5, 8), 7)  # as released, with the gripper
    return decisions, drafter.plain.decide(IMAGE, INSTRUCTION).bins


@pytest.mark.parametrize("right", [1, 3, 6])
def test_steps_3_7_and_11_are_completed_whatever_was_accepted(vla, right):
    decisions, _ = run(vla, 12, right)
    assert [step for step, d in enumerate(decisions) if d.path == "kalman"] == [3, 7, 11]
    assert all(d.forward_passes == 2 for d in decisions[3::4])


def test_what_it_executes_and_remembers(vla):
    decisions, plain = run(vla, 8, right=3, kerv_tails=False)
    assert all(np.array_equal(d.bins, plain) for d in decisions[:3])
    # the accepted drafts of dimensions 1 and 2 one dimension early, then the filter, which repeats
    assert decisions[3].bins.tolist() == [*plain[1:3], *plain[2:]]
    # what the filter remembers of step 3: the first token, and the first six that were executed
    filter = filter_after([ids_of(plain)] * 3 + [ids_of([plain[0], *decisions[3].bins[:6]])] + [ids_of(plain)] * 3)
    last = bins_of(np.floor(filter.estimate()))
    assert decisions[7].bins.tolist() == [*plain[1:3], *last[2:]]


@pytest.mark.parametrize("suite", SUITES)
def test_the_suite_decides_how_fast_the_threshold_falls(vla, suite):
    steps = {"libero_spatial": "170", "libero_goal": "220", "libero_object": "240", "libero_10": "470"}[suite]
    threshold = run(vla, 6, 1, kerv_steps=20, suite=suite)[0][5].threshold
    assert threshold == pytest.approx(GOLDEN["threshold"][steps]["5"])


def test_without_a_setting_the_suite_is_that_of_the_policys_key(vla, monkeypatch):
    assert run(vla, 6, 1, kerv_steps=20)[0][5].threshold == pytest.approx(time_decay(5, 20, 3.0, 15.0))
    monkeypatch.setattr(vla, "_table", {"libero_10_no_noops": vla.statistics})
    monkeypatch.setattr(vla, "unnorm_key", "libero_10_no_noops")
    assert run(vla, 6, 1, kerv_steps=20)[0][5].threshold == pytest.approx(GOLDEN["threshold"]["470"]["5"])


def test_the_tails_below_each_node():
    source = KalmanTails(Candidates(np.array([[5, 9, 9], [5, 8, 7]])), np.arange(7))
    draft = source.propose([5])
    paths = {tuple(draft.bins[row[row >= 0]]) for row in draft.shape.paths}
    assert paths == {(9, 1, 2, 3, 4, 5), (9, 9, 2, 3, 4, 5), (8, 1, 2, 3, 4, 5), (8, 7, 2, 3, 4, 5)}
    assert not len(source.propose([5] * 7))


def test_tails_are_rounded_where_the_completion_is_cut_off(vla):
    class Knowledge:
        history = [None] * 3

    class Half(TokenFilter):
        def estimate(self):
            return ids_of([100] * 7) + 0.6

    class OneDraft:
        def session(self, nodes, depth, top_k, tokens):
            return Candidates(np.array([[5] * 7]))

    method, knowledge = KervReference(Settings(), OneDraft()), Knowledge()
    knowledge.vla, method._filter = vla, Half()
    method._filter.observe(ids_of([100] * 7))
    plan = method.plan(knowledge)
    assert plan.source.propose([5]).bins[-1] == 99
    passes = [PassRecord("prefill", 0, 0), PassRecord("extend", 6, 1)]
    assert plan.complete(Outcome(tokens=[5, 6, 7], passes=passes)) == [6] + [100] * 6


def test_the_widest_released_tree_fits_into_a_pass_with_its_tails(vla):
    """The released code was seen with 199 to 244 nodes; a drafter that knows nothing draws the widest tree that there is."""
    torch.manual_seed(0)
    drafter = drafters.Drafter(drafters.DrafterModel(vla.config.text), vla)
    source = KalmanTails(drafter.session(50, 5, 8, 7), np.arange(7))
    prompt = vla.observe(IMAGE, INSTRUCTION)
    source.start(prompt, vla.prefill(prompt))
    assert 199 <= len(source.propose([5])) < MAX_DRAFT_NODES


def test_the_tails_can_be_left_out(vla):
    with_tails, without = (run(vla, 3, 3, kerv_tails=on)[0][2].passes[1].drafted for on in (True, False))
    assert with_tails > without
