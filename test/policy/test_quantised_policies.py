# SPDX-License-Identifier: Apache-2.0
"""Weight-only quantisation takes the memory that it says, changes little, and is refused with a sentence where it cannot."""

import numpy as np
import pytest
import torch

from vla_sd_ros import policy
from vla_sd_ros.decoding import factory
from vla_sd_ros.policy import quantization, weights
from vla_sd_ros.policy.draft import chain
from vla_sd_ros.policy.model import VlaModel
from vla_sd_ros.policy.random_openvla import RANDOM
from vla_sd_ros.policy.self_test import self_test

IMAGE = np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8)


@pytest.fixture
def torchao():
    return pytest.importorskip("torchao", reason="needs the extra [quantization]")


@pytest.mark.parametrize("kind, error", [("int8", 0.02), ("fp8", 0.06)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_logits_change_little_and_the_layers_take_a_byte_a_weight(torchao, kind, error, dtype):
    plain = policy.load("random-tiny-openvla", dtype=dtype, threads=1)
    small = policy.load("random-tiny-openvla", dtype=dtype, threads=1, quantization=kind)
    prompts = [vla.observe(IMAGE, "pick up the milk") for vla in (plain, small)]
    expected, found = (vla.prefill(prompt, chain([1, 2])).logits.float() for vla, prompt in zip((plain, small), prompts))
    difference = (found - expected).abs().max() / expected.abs().max()
    assert 0 < difference < error
    (_, before), (_, after) = plain.sizes()[1], small.sizes()[1]
    rows = 2 * (3 * 64 + 64 + 2 * 128 + 64)
    layers = 2 * (4 * 64 * 64 + 3 * 64 * 128)
    overhead = layers * (plain.lm_head.dtype.itemsize - 1) - (before - after)
    assert overhead / rows in (4, 5)  # a scale of four bytes a row, int8 also a zero
    assert small.size()[0] == plain.size()[0] and f"with layers of {kind}" in self_test(small)


def test_a_quantised_checkpoint_decides_and_nothing_else_is_quantised(torchao, openvla_directory):
    plain, small = (policy.load(openvla_directory, threads=1, quantization=kind) for kind in ("none", "int8"))
    bins = [factory.make("prefill", vla).decide(IMAGE, "put it there").bins for vla in (plain, small)]
    assert np.mean(bins[0] == bins[1]) > 0.5
    assert torch.equal(plain.lm_head, small.lm_head)
    assert torch.equal(*(vla.observe(IMAGE, "put it there").embeddings for vla in (plain, small)))
    with pytest.raises(ValueError, match="leave --quantization out"):
        _ = small.llama


@pytest.mark.parametrize(
    "kind, sentence",
    [
        ("int2", "there is no quantization 'int2': choose one of none, int8, fp8, int4"),
        ("int4", "quantization int4 needs a CUDA device of compute capability 8.0 or newer, not cpu: use int8"),
    ],
)
def test_what_cannot_work_is_one_sentence(torchao, kind, sentence):
    with pytest.raises(policy.CheckpointError, match=sentence):
        policy.load("random-tiny-openvla", quantization=kind)


def test_a_missing_library_is_told(monkeypatch):
    monkeypatch.setattr(quantization, "find_spec", lambda name: None)
    with pytest.raises(policy.CheckpointError, match=r"needs torchao: pip install 'vla_sd_ros\[quantization\]'"):
        policy.load("random-tiny-openvla", quantization="int8")
    assert policy.load("random-tiny-openvla")  # nothing else needs it


@pytest.mark.parametrize("kind, gigabytes", [("none", 16.0), ("int8", 9.7), ("int4", 6.3)])
def test_memory_of_the_large_one(kind, gigabytes):
    with torch.device("meta"):
        model = VlaModel(RANDOM["random-7b"])
    assert weights.needed_memory(model, torch.bfloat16, kind) / 1e9 == pytest.approx(gigabytes, abs=0.3)


def refusal(monkeypatch, device: str, free: dict, **options) -> str:
    monkeypatch.setattr(weights, "available_memory", lambda device: free[device.type])
    with torch.device("meta"):
        model = VlaModel(RANDOM["random-7b"])
    with pytest.raises(policy.CheckpointError) as error:
        weights.check_memory(model, torch.device(device), **options)
    return str(error.value)


def test_too_little_memory_names_what_would_fit(monkeypatch):
    cpu, gpu = 20e9, 11e9
    said = refusal(monkeypatch, "cuda", {"cpu": cpu, "cuda": gpu}, dtype=torch.bfloat16)
    assert "it needs 16.0 GB in bfloat16, but cuda has 11.0 GB free" in said
    for part in (
        "here in bfloat16 with quantization int8",
        "here in bfloat16 with quantization int4",
        "on a GPU with 24 GB in bfloat16",
        "on this machine's CPU, slowly",
    ):
        assert part in said
    said = refusal(monkeypatch, "cuda", {"cpu": 4e9, "cuda": gpu}, dtype=torch.float32)
    assert "it needs 32.1 GB in float32" in said and "machine's CPU" not in said and "here in bfloat16 (" not in said
    said = refusal(monkeypatch, "cpu", {"cpu": 17e9}, dtype=torch.float32)
    assert "here in bfloat16 (16.0 GB)" in said and "int4" not in said.partition("on a GPU")[0]
    said = refusal(monkeypatch, "cpu", {"cpu": 3e9}, dtype=torch.bfloat16, kind="int8")
    assert "in bfloat16 with quantization int8, but cpu has 3.0 GB free" in said
    assert "here" not in said and "on a CPU with 16.0 GB of free memory" in said
