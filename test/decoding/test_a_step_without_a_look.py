# SPDX-License-Identifier: Apache-2.0
"""A step that was foretold is executed without a look at its image: at most ahead_steps in a row, never when the gripper turns, never
at the beginning of a goal, after a rejection, or when anything came between; and it costs no pass at all."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vla_sd_ros import policy
from vla_sd_ros.decoding import factory
from vla_sd_ros.decoding.history import History
from vla_sd_ros.decoding.settings import Settings
from vla_sd_ros.policy.checkpoint import DRAFT_HEAD
from vla_sd_ros.policy.model import DraftHead

NOW, NEXT = np.array([100, 120, 130, 128, 128, 128, 255]), np.array([90, 110, 120, 128, 128, 128, 255])
INSTRUCTION, IMAGE = "pick up the milk", np.zeros((32, 32, 3), np.uint8)
SURE = {"skip_confidence": 0.9, "ahead_confidence": 0.9, "ahead_steps": 1, "fused_run": 100, "skip_while_right": False}


def one_hot(bins) -> np.ndarray:
    return np.eye(256, dtype=np.float32)[bins]


class Goal:
    """Steps of one goal with a draft head that is sure of NOW and, one step ahead, of NEXT."""

    def __init__(self, vla, monkeypatch, **settings):
        head = DraftHead(vla.config.vision.width, vla.config.text.hidden_size, looks_ahead=True)
        monkeypatch.setattr(vla, "draft_head", head)
        monkeypatch.setattr(vla, "draft", lambda prompt: one_hot(self.now))
        monkeypatch.setattr(vla, "draft_ahead", self._ahead)
        self.now, self.next, self.asked, self.paths = NOW, NEXT, [], []
        self.decoder = factory.make("fused", vla, Settings(**(SURE | settings)))
        self.history = History(vla.statistics)

    def _ahead(self, prompt, executed, by) -> np.ndarray:
        self.asked.append((by, executed))
        return one_hot(self.next)

    def step(self, instruction=INSTRUCTION, execute=True) -> np.ndarray:
        self.history.see(None)
        decision = self.decoder.decide(IMAGE, instruction, self.history)
        if execute:
            self.history.record(decision.bins)
        self.paths.append(decision.path)
        return decision.bins

    def steps(self, count: int) -> list[str]:
        for _ in range(count):
            self.step()
        return self.paths


@pytest.fixture
def goal(vla, monkeypatch):
    return Goal(vla, monkeypatch)


def test_a_step_without_a_look_is_never_followed_by_another_and_the_first_two_are_looked_at(goal):
    assert goal.steps(12) == ["prefill", "skip"] + ["ahead", "skip"] * 5
    assert all(by == 1 and np.array_equal(executed[1], NOW) for by, executed in goal.asked)


def test_two_in_a_row_where_that_is_set_the_second_told_of_the_first(vla, monkeypatch):
    goal = Goal(vla, monkeypatch, ahead_steps=2)
    assert goal.steps(11) == ["prefill", "skip"] + ["ahead", "ahead", "skip"] * 3
    assert [by for by, _ in goal.asked] == [1, 2] * 3
    assert all(np.array_equal(executed[1], (NOW, NEXT)[by - 1]) for by, executed in goal.asked)


def test_none_where_that_is_set(vla, monkeypatch):
    assert "ahead" not in Goal(vla, monkeypatch, ahead_steps=0).steps(8)


def test_it_executes_what_was_foretold_and_runs_nothing_of_the_policy(vla, goal, monkeypatch):
    goal.steps(2)
    ran = []
    for name in ("_look", "_project", "_forward"):
        monkeypatch.setattr(vla, name, lambda *a, name=name: ran.append(name))
    assert np.array_equal(goal.step(), NEXT) and not ran and goal.paths[-1] == "ahead"


@pytest.mark.parametrize("turns", ["foretold", "just now"])
def test_a_turn_of_the_gripper_is_never_unseen_nor_is_the_step_after_it(goal, turns):
    goal.steps(2)
    closed = np.append(NOW[:6], 0)
    if turns == "foretold":
        goal.next = closed
    else:
        goal.history.bins[-1], goal.next = closed, closed
    goal.step()
    assert goal.paths[-1] != "ahead"


@pytest.mark.parametrize("doubt", ["motion", "gripper"])
def test_a_head_in_doubt_looks(goal, monkeypatch, vla, doubt):
    probabilities = one_hot(NEXT)
    probabilities[0 if doubt == "motion" else 6] = 1 / 256
    monkeypatch.setattr(vla, "draft_ahead", lambda prompt, executed, by: probabilities)
    assert "ahead" not in goal.steps(6)


@pytest.mark.parametrize("radius, ahead", [(0.0, False), (255.0, True)])
def test_after_a_verified_step_only_where_the_verifier_did_not_reject(vla, monkeypatch, radius, ahead):
    goal = Goal(vla, monkeypatch, skip_confidence=1.1, jacobi_radius=radius)
    goal.step()
    bins = goal.step()
    assert goal.paths == ["prefill", "prefill"]
    goal.next = np.append(NEXT[:6], bins[6])
    goal.history.bins[-2] = bins
    goal.step()
    assert (goal.paths[-1] == "ahead") == ahead


@pytest.mark.parametrize("steps", [2, 3])  # that were done: the look, and one without
@pytest.mark.parametrize("between", ["a hold", "another sentence", "another goal", "an action that was not executed"])
def test_what_comes_between_is_looked_at(vla, monkeypatch, between, steps):
    goal = Goal(vla, monkeypatch, ahead_steps=2)
    goal.steps(steps)
    if between == "a hold":
        goal.history.interrupt()
    elif between == "another goal":
        goal.history = History(goal.history.statistics, list(goal.history.bins))
    elif between == "an action that was not executed":
        goal.history.bins.pop()
    goal.step("open the drawer" if between == "another sentence" else INSTRUCTION)
    assert goal.paths[-1] != "ahead"


@pytest.mark.parametrize("steps, run", [(1, "sas"), (2, "saa")])
def test_unseen_steps_count_among_the_unverified_ones(vla, monkeypatch, steps, run):
    goal = Goal(vla, monkeypatch, fused_run=3, ahead_steps=steps)
    runs = "".join(path[0] for path in goal.steps(30)).split("p")
    assert max(map(len, runs)) == 3 and run in runs


def test_by_default_every_step_is_looked_at(vla, monkeypatch):
    assert "ahead" not in Goal(vla, monkeypatch, ahead_confidence=Settings().ahead_confidence).steps(8)


def test_a_head_of_nan_ahead_looks(goal, vla, monkeypatch):
    monkeypatch.setattr(vla, "draft_ahead", lambda prompt, executed, by: np.full((7, 256), np.nan))
    assert "ahead" not in goal.steps(6)


def test_a_head_that_does_not_look_ahead_still_loads_and_looks_at_every_image(tmp_path):
    policy.write_random(tmp_path, seed=1)
    assert not any(name.startswith("ahead") for name in load_file(tmp_path / DRAFT_HEAD))
    vla = policy.load(tmp_path)
    assert not vla.draft_head.looks_ahead
    decoder, history = factory.make("fused", vla, Settings(skip_confidence=0.0, ahead_confidence=0.0)), History(vla.statistics)
    for _ in range(6):
        history.see(None)
        decision = decoder.decide(IMAGE, INSTRUCTION, history)
        assert decision.path != "ahead"
        history.record(decision.bins)


def test_a_head_that_looks_ahead_survives_its_file(tmp_path):
    policy.write_random(tmp_path, seed=1)
    config = policy.load(tmp_path).config
    torch.manual_seed(0)
    head = DraftHead(config.vision.width, config.text.hidden_size, looks_ahead=True)
    save_file(head.state_dict(), tmp_path / DRAFT_HEAD)
    vla, executed = policy.load(tmp_path), np.stack([NOW, NEXT])
    found = vla.draft_ahead(vla.observe(IMAGE, INSTRUCTION), executed, 1)
    assert found.shape == (7, 256) and found.sum(-1) == pytest.approx(1.0)
    for other in ((executed[::-1].copy(), 1), (executed, 2)):
        assert not np.allclose(found, vla.draft_ahead(vla.observe(IMAGE, INSTRUCTION), *other))
