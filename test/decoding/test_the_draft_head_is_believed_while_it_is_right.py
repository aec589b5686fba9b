# SPDX-License-Identifier: Apache-2.0
"""fused executes what the draft head is sure of only while the head was right when the language model ran last: a head that is sure
of the wrong thing is verified at every step, until it is right again."""

import numpy as np
import pytest

from vla_sd_ros.decoding import factory
from vla_sd_ros.decoding.history import History
from vla_sd_ros.decoding.settings import Settings

INSTRUCTION, IMAGE = "pick up the milk", np.full((32, 32, 3), 90, np.uint8)


class Goal:
    """Steps of one goal before one image, with a draft head that is sure of what the policy says to it, `off` bins beside."""

    def __init__(self, vla, monkeypatch, **settings):
        self.off, self._policys = 0, factory.make("autoregressive", vla, Settings()).decide(IMAGE, INSTRUCTION).bins
        monkeypatch.setattr(vla, "draft", lambda prompt: np.eye(256, dtype=np.float32)[self._drafted()])
        self._decoder = factory.make("fused", vla, Settings(skip_confidence=0.9, fused_run=3, **settings))
        self._history = History(vla.statistics)

    def _drafted(self) -> np.ndarray:
        """The last motion is beside, after which the policy says nothing but the gripper's token."""
        drafted = self._policys.copy()
        drafted[5] += self.off if drafted[5] < 128 else -self.off
        return drafted

    def steps(self, count: int) -> list[str]:
        paths = []
        for _ in range(count):
            self._history.see(None)
            decision = self._decoder.decide(IMAGE, INSTRUCTION, self._history)
            self._history.record(self._policys)
            paths.append(decision.path)
        return paths


def test_a_head_that_is_right_is_verified_each_fourth_step(vla, monkeypatch):
    assert Goal(vla, monkeypatch).steps(9) == ["prefill", *["skip"] * 3] * 2 + ["prefill"]


def test_a_head_that_is_wrong_is_verified_until_it_is_right_again(vla, monkeypatch):
    goal = Goal(vla, monkeypatch)
    assert goal.steps(2) == ["prefill", "skip"]
    goal.off = 60
    assert goal.steps(6) == ["skip", "skip", *["prefill"] * 4]  # believed, until the language model has run
    goal.off = 0
    assert goal.steps(3) == ["prefill", "skip", "skip"]


@pytest.mark.parametrize(("off", "path"), [(2, "skip"), (60, "prefill")])
def test_right_is_within_the_radius(vla, monkeypatch, off, path):
    goal = Goal(vla, monkeypatch)
    goal.off = off
    assert goal.steps(2) == ["prefill", path]


def test_it_can_be_switched_off(vla, monkeypatch):
    goal = Goal(vla, monkeypatch, skip_while_right=False)
    goal.off = 60
    assert goal.steps(8) == ["prefill", *["skip"] * 3] * 2
