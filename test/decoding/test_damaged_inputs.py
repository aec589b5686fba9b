# SPDX-License-Identifier: Apache-2.0
"""NaN logits end a step with one sentence and harm no later one; joint states that jump, and drafts of NaN, cost speed only."""

import numpy as np
import pytest
import torch
from test_heisd import IMAGE, INSTRUCTION, database

from vla_sd_ros.decoding import factory
from vla_sd_ros.decoding.history import History
from vla_sd_ros.decoding.settings import Settings
from vla_sd_ros.kinematics.pose import Pose
from vla_sd_ros.policy import drafter as drafters

EXACT = Settings(
    relaxed_radius=0.0, jacobi_radius=0.0, kerv_mode="fixed", skip_run=0, fused_run=0, sequence_largest=0, sequence_total=0
)
JUMPS = [np.full(3, 5.0), np.full(3, np.nan), np.zeros(3), np.full(3, np.inf), np.full(3, -9.0)]
# These execute what was never verified by design, so what they emit depends on the history or the database.
UNVERIFIED = {"retrieval_only", "kerv", "kerv_repeat", "kerv_reference", "heisd_reference"}


@pytest.fixture
def drafter(vla):
    torch.manual_seed(0)
    return drafters.Drafter(drafters.DrafterModel(vla.config.text), vla)


def make(name, vla, drafter):
    return factory.make(name, vla, EXACT, drafter, database(vla))


@pytest.mark.parametrize("name", sorted(set(factory.DECODERS) - {"retrieval_only"}))
def test_nan_logits_are_one_sentence_and_the_next_step_is_as_ever(vla, drafter, name, monkeypatch):
    decoder = make(name, vla, drafter)
    before = decoder.decide(IMAGE, INSTRUCTION).bins
    with monkeypatch.context() as broken:
        broken.setattr(vla, "lm_head", torch.full_like(vla.lm_head, torch.nan))
        with pytest.raises(ValueError, match="logits that are not finite; its weights or the image are damaged"):
            decoder.decide(IMAGE, INSTRUCTION)
    assert np.array_equal(decoder.decide(IMAGE, INSTRUCTION).bins, before)


@pytest.mark.parametrize("name", factory.DECODERS)
def test_an_end_effector_that_jumps_changes_no_verified_token(vla, drafter, name):
    decoder, plain = make(name, vla, drafter), factory.make("autoregressive", vla)
    history = History(vla.statistics)
    for step in range(15):
        history.see(Pose(JUMPS[step % len(JUMPS)], np.eye(3)))
        decision = decoder.decide(IMAGE, INSTRUCTION, history)
        assert np.isfinite(decision.action).all() and decision.bins.shape == (7,)
        assert 0 <= decision.bins.min() and decision.bins.max() <= 255
        if name not in UNVERIFIED:
            assert np.array_equal(decision.bins, plain.decide(IMAGE, INSTRUCTION).bins)
        history.record(decision.bins)


def test_a_drafter_of_nan_costs_speed_only(vla):
    model = drafters.DrafterModel(vla.config.text)
    for parameter in model.parameters():
        parameter.data.fill_(torch.nan)
    decision = make("naive_sd", vla, drafters.Drafter(model, vla)).decide(IMAGE, INSTRUCTION)
    assert np.array_equal(decision.bins, factory.make("autoregressive", vla).decide(IMAGE, INSTRUCTION).bins)


def test_a_draft_head_of_nan_costs_speed_only(vla, monkeypatch):
    monkeypatch.setattr(vla, "draft_head", object())
    monkeypatch.setattr(vla, "draft", lambda prompt: np.full((7, 256), np.nan))
    plain = factory.make("autoregressive", vla).decide(IMAGE, INSTRUCTION).bins
    for name in ("prefill", "prefill_jacobi", "fused"):
        assert np.array_equal(make(name, vla, None).decide(IMAGE, INSTRUCTION).bins, plain)
