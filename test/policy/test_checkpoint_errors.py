# SPDX-License-Identifier: Apache-2.0
"""A checkpoint loads or is refused with one sentence that names what is wrong."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from vla_sd_ros import policy
from vla_sd_ros.policy.self_test import self_test


@pytest.fixture
def checkpoint(tmp_path):
    policy.write_random(tmp_path / "c")
    return tmp_path / "c"


def test_a_whole_checkpoint_loads_and_passes_its_self_test(checkpoint):
    assert "self-test passed" in self_test(policy.load(checkpoint))


def test_the_same_image_gives_the_same_tokens(checkpoint):
    import numpy as np

    from vla_sd_ros.decoding import factory

    decoder = factory.make("autoregressive", policy.load(checkpoint))
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    first, second = decoder.decide(image, "pick up the milk"), decoder.decide(image, "pick up the milk")
    assert first.bins.tolist() == second.bins.tolist() and first.forward_passes == 7


def test_an_unknown_name_lists_the_shipped_ones():
    with pytest.raises(policy.CheckpointError, match="nowhere.*shipped"):
        policy.load("nowhere")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "dataset_statistics.json"])
def test_a_missing_file_is_named(checkpoint, name):
    (checkpoint / name).unlink()
    with pytest.raises(policy.CheckpointError, match=name):
        policy.load(checkpoint)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "dataset_statistics.json"])
def test_a_truncated_file_is_refused(checkpoint, name):
    path = checkpoint / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(policy.CheckpointError, match="cannot be read"):
        policy.load(checkpoint)


def test_another_kind_of_model_is_refused_by_name(checkpoint):
    (checkpoint / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(policy.CheckpointError, match="gpt2"):
        policy.load(checkpoint)


def mutate(checkpoint, change):
    path = checkpoint / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)


def test_a_missing_an_extra_and_a_misshapen_tensor_are_named(checkpoint):
    name = "projector.fc1.weight"
    original = load_file(checkpoint / "model.safetensors")[name].clone()
    mutate(checkpoint, lambda weights: weights.pop(name))
    with pytest.raises(policy.CheckpointError, match="lacks tensor projector.fc1.weight"):
        policy.load(checkpoint)
    mutate(checkpoint, lambda weights: weights.update({name: original[:5].clone()}))
    with pytest.raises(policy.CheckpointError, match="projector.fc1.weight has shape"):
        policy.load(checkpoint)
    mutate(checkpoint, lambda weights: weights.update({name: original, "zzz": torch.zeros(1)}))
    with pytest.raises(policy.CheckpointError, match="unknown tensor zzz"):
        policy.load(checkpoint)


def test_a_vision_tower_that_ignores_the_image_fails_the_self_test(checkpoint):
    mutate(checkpoint, lambda weights: weights["vision_backbone.embed.weight"].zero_())
    with pytest.raises(policy.CheckpointError, match="ignores the image"):
        self_test(policy.load(checkpoint))


def test_weights_that_are_not_finite_fail_the_self_test(checkpoint):
    mutate(checkpoint, lambda weights: weights["projector.fc2.bias"].fill_(float("nan")))
    with pytest.raises(policy.CheckpointError, match="not finite"):
        self_test(policy.load(checkpoint))


def test_the_statistics_key_must_exist(checkpoint):
    path = checkpoint / "dataset_statistics.json"
    entry = json.loads(path.read_text())["random"]
    path.write_text(json.dumps({"a": entry, "b": entry}))
    with pytest.raises(policy.CheckpointError, match="a, b"):
        policy.load(checkpoint)
    assert policy.load(checkpoint, unnorm_key="b")
