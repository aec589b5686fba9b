# SPDX-License-Identifier: Apache-2.0
"""An action that is executed unverified costs the vision tower: no projector, no pass of the language model."""

import numpy as np

from vla_sd_ros.decoding.settings import Settings
from vla_sd_ros.decoding.speculative import AUTOREGRESSIVE, Method, Plan, Speculative

ACTION = np.array([100, 120, 130, 128, 128, 128, 255])


class Skip(Method):
    def __init__(self, plan):
        self._plan = plan

    def plan(self, knowledge):
        return self._plan


def test_neither_projector_nor_language_model_run(vla, observations, monkeypatch):
    ran = []
    for name in ("_project", "_forward"):
        original = getattr(vla, name)
        monkeypatch.setattr(vla, name, lambda *a, name=name, original=original: ran.append(name) or original(*a))
    image, _ = next(iter(observations(vla, 1)))
    skipped = Speculative("skip", vla, Skip(Plan("skip", skip=ACTION)), Settings()).decide(image, "pick up the milk")
    assert not ran and np.array_equal(skipped.bins, ACTION) and not skipped.passes
    Speculative("plain", vla, Skip(AUTOREGRESSIVE), Settings()).decide(image, "pick up the milk")
    assert ran == ["_project"] + ["_forward"] * 7


def test_several_images_are_projected_at_once(vla, observations, monkeypatch):
    calls, original = [], vla._project
    monkeypatch.setattr(vla, "_project", lambda cells: calls.append(len(cells)) or original(cells))
    images = [image for image, _ in observations(vla, 3)]
    together = vla.observe_all(images, ["pick up the milk", "pick up the milk", "open the drawer"])
    assert not calls
    rows = [prompt.embeddings for prompt in together]
    assert calls == [3]
    for image, instruction, row in zip(images, ["pick up the milk", "pick up the milk", "open the drawer"], rows):
        np.testing.assert_allclose(row, vla.observe(image, instruction).embeddings, rtol=1e-4, atol=1e-5)
