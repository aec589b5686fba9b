# SPDX-License-Identifier: Apache-2.0
"""A policy server does without a look at an image only where its client says that it follows the one before: others may
have paused."""

import asyncio

import numpy as np
import pytest

from vla_sd_ros import policy
from vla_sd_ros.assembly.brain import Choice
from vla_sd_ros.assembly.local import LocalBrain, Model
from vla_sd_ros.decoding.settings import Settings
from vla_sd_ros.policy.model import DraftHead
from vla_sd_ros.serving.remote import Progress
from vla_sd_ros.serving.remote import _extension as said_by_our_client
from vla_sd_ros.serving.requests import EXTENSION, from_openpi
from vla_sd_ros.serving.service import Service
from vla_sd_ros.serving.wire import pack

SURE = np.eye(256, dtype=np.float32)[[100, 120, 130, 128, 128, 128, 0]]
IMAGE = np.zeros((32, 32, 3), np.uint8)


@pytest.fixture
def service(tmp_path):
    policy.write_random(tmp_path)
    vla = policy.load(tmp_path)
    vla.use_draft_head(DraftHead(vla.config.vision.width, vla.config.text.hidden_size, looks_ahead=True))
    vla.draft, vla.draft_ahead = lambda prompt: SURE, lambda prompt, executed, by: SURE
    choice = Choice("fused", Settings(skip_confidence=0.5, ahead_confidence=0.5, fused_run=4, skip_while_right=False))
    service = Service(vla, lambda seat: LocalBrain(Model(vla), choice, seat))
    yield service
    service.close()


def paths(service, extension) -> list[str]:
    """Of eight steps. extension: what the client says beside each."""
    episode = service.episode()

    async def ask() -> list[str]:
        messages = ({"observation/image": IMAGE, "prompt": "pick up the milk", **extension(step)} for step in range(8))
        return [(await service.decide(episode, from_openpi(pack(message)))).path for message in messages]

    return asyncio.run(ask())


def test_openpis_clients_are_looked_for_at_every_image(service):
    assert "ahead" not in paths(service, lambda step: {})
    assert "ahead" not in paths(service, lambda step: {EXTENSION: {"step": step}})


def test_our_client_says_when_it_held(service):
    progress = Progress()

    def extension(step: int) -> dict:
        if step == 3:
            progress.interrupt()
        said = {EXTENSION: said_by_our_client(progress)}
        progress.record(np.zeros(7))
        return said

    found = paths(service, extension)
    assert found == ["prefill", "skip", "ahead", "skip", "ahead", "prefill", "skip", "ahead"]
