# SPDX-License-Identifier: Apache-2.0
"""A policy of OpenVLA's structure with random weights needs no file and runs every decoder's contract."""

import numpy as np
import torch

from vla_sd_ros import policy
from vla_sd_ros.decoding import factory
from vla_sd_ros.policy.model import VlaModel
from vla_sd_ros.policy.random_openvla import RANDOM
from vla_sd_ros.policy.self_test import self_test

IMAGE = np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8)


def test_the_small_one_loads_by_name_and_decides_the_same_each_time():
    decisions = []
    for _ in range(2):
        vla = policy.load("random-tiny-openvla")
        assert "bfloat16" in self_test(vla)
        decisions.append(factory.make("autoregressive", vla).decide(IMAGE, "pick up the bowl"))
    first, second = decisions
    assert first.bins.tolist() == second.bins.tolist() and first.forward_passes == 7
    assert np.isfinite(first.action).all() and 0 <= first.bins.min() and first.bins.max() <= 255


def test_verification_in_the_prefill_gives_its_own_tokens():
    vla = policy.load("random-tiny-openvla", dtype="float32")
    plain, decoder = factory.make("autoregressive", vla), factory.make("prefill", vla)
    for shift in range(3):
        image = np.roll(IMAGE, 16 * shift, axis=1)
        expected = plain.decide(image, "pick up the bowl").bins
        assert decoder.decide(image, "pick up the bowl").bins.tolist() == expected.tolist()


def test_its_prompts_are_about_as_long_as_llamas():
    vla = policy.load("random-tiny-openvla")
    prompt = vla.observe(IMAGE, "put both the alphabet soup and the tomato sauce in the basket")
    assert prompt.image_tokens == 16 and abs(len(prompt.embeddings) - prompt.image_tokens - 29) <= 3


def test_the_large_one_has_the_published_size():
    config = RANDOM["random-7b"]
    assert (config.vision.tokens, config.vision.width, config.text.num_hidden_layers) == (256, 2176, 32)
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in VlaModel(config).state_dict().items()}
    assert shapes["language_model.lm_head.weight"] == (32064, 4096)
    assert shapes["projector.fc1.weight"] == (8704, 2176) and shapes["projector.fc2.weight"] == (4096, 8704)
    assert shapes["vision_backbone.fused_featurizer.blocks.25.mlp.fc1.weight"] == (4304, 1152)
    assert "vision_backbone.featurizer.blocks.23.norm1.weight" not in shapes
