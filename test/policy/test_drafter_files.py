# SPDX-License-Identifier: Apache-2.0
"""A released drafter's file does what its authors' network does, written down here again; a wrong one is one sentence."""

import math
import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vla_sd_ros import policy
from vla_sd_ros.policy.drafter import Budget, load_drafter

HIDDEN, FEED_FORWARD, HEADS = 32, 64, 2  # of policy.write_random
SHAPES = {
    "fc.weight": (HIDDEN, 2 * HIDDEN),
    "fc.bias": (HIDDEN,),
    "layers.0.self_attn.q_proj.weight": (HIDDEN, HIDDEN),
    "layers.0.self_attn.k_proj.weight": (HIDDEN, HIDDEN),
    "layers.0.self_attn.v_proj.weight": (HIDDEN, HIDDEN),
    "layers.0.self_attn.o_proj.weight": (HIDDEN, HIDDEN),
    "layers.0.mlp.gate_proj.weight": (FEED_FORWARD, HIDDEN),
    "layers.0.mlp.up_proj.weight": (FEED_FORWARD, HIDDEN),
    "layers.0.mlp.down_proj.weight": (HIDDEN, FEED_FORWARD),
    "layers.0.post_attention_layernorm.weight": (HIDDEN,),
}


@pytest.fixture
def checkpoint(tmp_path):
    policy.write_random(tmp_path / "policy")
    return tmp_path / "policy"


@pytest.fixture
def vla(checkpoint):
    vla = policy.load(checkpoint)
    vla.lm_head *= 30
    return vla


def released_weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(shape, generator=generator) / math.sqrt(shape[-1]) for name, shape in SHAPES.items()}
    return {name: value.half() for name, value in {**weights, "embed_tokens.weight": torch.zeros(320, HIDDEN)}.items()}


def write_released(directory) -> None:
    directory.mkdir(exist_ok=True)
    torch.save(released_weights(), directory / "pytorch_model.bin")


def plain(weights, embeddings, hidden) -> torch.Tensor:
    """EAGLE's network over whole sequences (n, h): a linear layer, then attention and feed-forward without a first norm."""
    w = {name.removeprefix("layers.0."): value.float() for name, value in weights.items()}
    x = torch.cat((embeddings, hidden), 1) @ w["fc.weight"].T + w["fc.bias"]
    count, size = len(x), HIDDEN // HEADS
    angles = torch.arange(count)[:, None] * 10000.0 ** (-torch.arange(0, size, 2) / size)

    def turned(vectors):  # pairs (i, i + size / 2) turn by the angle of their position
        first, second = vectors[:, : size // 2], vectors[:, size // 2 :]
        return torch.cat((first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()), 1)

    heads = []
    for rows in torch.arange(HIDDEN).split(size):
        query, key, value = (x @ w[f"self_attn.{name}_proj.weight"][rows].T for name in "qkv")
        scores = turned(query) @ turned(key).T / math.sqrt(size)
        scores = scores.masked_fill(torch.ones(count, count).triu(1).bool(), -math.inf)
        heads.append(scores.softmax(1) @ value)
    x = x + torch.cat(heads, 1) @ w["self_attn.o_proj.weight"].T
    h = x / (x.square().mean(1, keepdim=True) + 1e-6).sqrt() * w["post_attention_layernorm.weight"]
    gate = h @ w["mlp.gate_proj.weight"].T
    return x + (gate * gate.sigmoid() * (h @ w["mlp.up_proj.weight"].T)) @ w["mlp.down_proj.weight"].T


def drafted_level(vla, drafter, root) -> np.ndarray:
    prompt = vla.observe(np.full((32, 32, 3), 90, np.uint8), "pick up the milk")
    drafter.start(prompt.embeddings, vla.prefill(prompt).prompt)
    return drafter.propose(root, 5, Budget(depth=1, top_k=32)).bins


def test_a_released_drafter_ranks_tokens_as_the_plain_network_does(vla, tmp_path):
    write_released(tmp_path / "released")
    drafted = drafted_level(vla, load_drafter(tmp_path / "released", vla), 42)
    prompt = vla.observe(np.full((32, 32, 3), 90, np.uint8), "pick up the milk")
    embeddings = torch.cat((prompt.embeddings[1:], vla.action_embeddings[42:43]))
    logits = (plain(released_weights(), embeddings, vla.prefill(prompt).prompt)[-1] @ vla.lm_head.T).numpy()
    assert logits.max() - logits.min() > 1
    assert (np.diff(logits[drafted]) <= 1e-4).all()
    assert logits[drafted].min() >= np.delete(logits, drafted).max() - 1e-4


def test_the_file_in_the_checkpoint_goes_first_and_a_file_can_be_named(vla, checkpoint, tmp_path):
    write_released(checkpoint)
    released = drafted_level(vla, load_drafter(checkpoint, vla), 42)
    own = {name: value.roll(1, 0) for name, value in released_weights().items()}
    save_file(own, checkpoint / "drafter.safetensors")
    assert not np.array_equal(drafted_level(vla, load_drafter(checkpoint, vla), 42), released)
    assert np.array_equal(drafted_level(vla, load_drafter(checkpoint / "pytorch_model.bin", vla), 42), released)


def test_a_checkpoint_without_a_drafter_says_how_to_train_one(vla, checkpoint):
    with pytest.raises(policy.CheckpointError, match="has no drafter.*vla-sd train-drafter"):
        load_drafter(checkpoint, vla)


def test_a_missing_an_extra_and_a_misshapen_tensor_are_named(vla, checkpoint):
    path = checkpoint / "drafter.safetensors"

    def written(change):
        weights = released_weights()
        change(weights)
        save_file(weights, path)

    written(lambda weights: weights.pop("fc.bias"))
    with pytest.raises(policy.CheckpointError, match="lacks tensor fc.bias"):
        load_drafter(checkpoint, vla)
    written(lambda weights: weights.update({"fc.weight": torch.zeros(64, 128)}))
    with pytest.raises(policy.CheckpointError, match=r"fc.weight has shape \(64, 128\), but .* asks for \(32, 64\)"):
        load_drafter(checkpoint, vla)
    written(lambda weights: weights.update({"motion_embeds.weight": torch.zeros(6, 32)}))
    with pytest.raises(policy.CheckpointError, match="unknown tensor motion_embeds.weight"):
        load_drafter(checkpoint, vla)


@pytest.mark.parametrize("name", ["drafter.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("length", [0, 1000])
def test_a_truncated_file_is_refused_in_one_line(vla, checkpoint, name, length):
    write_released(checkpoint)
    save_file(released_weights(), checkpoint / "drafter.safetensors")
    content = (checkpoint / name).read_bytes()[:length]
    (checkpoint / "drafter.safetensors").unlink()
    (checkpoint / name).write_bytes(content)
    with pytest.raises(policy.CheckpointError, match="cannot be read") as refused:
        load_drafter(checkpoint, vla)
    assert "\n" not in str(refused.value)


def test_a_pickle_that_is_not_weights_is_refused_and_its_code_does_not_run(vla, checkpoint):
    class Intruder:
        def __reduce__(self):
            return os.mkdir, (str(checkpoint / "intruded"),)

    torch.save(Intruder(), checkpoint / "pytorch_model.bin")
    with pytest.raises(policy.CheckpointError, match="cannot be read"):
        load_drafter(checkpoint, vla)
    assert not (checkpoint / "intruded").exists()
    torch.save({"epoch": 3, "weights": released_weights()}, checkpoint / "pytorch_model.bin")
    with pytest.raises(policy.CheckpointError, match="no plain weights"):
        load_drafter(checkpoint, vla)
