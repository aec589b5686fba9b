# SPDX-License-Identifier: Apache-2.0
"""The lean passes over the static cache give what transformers' own Llama gives, however the passes are cut."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaForCausalLM

from vla_sd_ros.policy import engine
from vla_sd_ros.policy.config import TextConfig
from vla_sd_ros.policy.model import llama_config

TEXT = TextConfig(vocab_size=300, hidden_size=64, num_attention_heads=4)


@pytest.fixture(scope="module")
def llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(llama_config(TEXT)).eval()


@pytest.fixture(scope="module")
def decoder(llama):
    layers = tuple(engine.join(layer) for layer in llama.model.layers)
    return engine.Decoder(layers, llama.model.norm.weight, 4, llama.config.rms_norm_eps)


def new_cache():
    return engine.KvCache(TEXT, 64, torch.device("cpu"), torch.float32)


@given(cuts=st.lists(st.integers(1, 9), min_size=1, max_size=6), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_passes_of_any_length_add_up_to_one(llama, decoder, cuts, seed):
    embeddings = torch.randn(sum(cuts), 64, generator=torch.Generator().manual_seed(seed))
    cache = new_cache()
    with torch.inference_mode():
        parts, start = [], 0
        for count in cuts:
            parts.append(engine.forward(decoder, cache, embeddings[start : start + count], start))
            start += count
        expected = llama.model(inputs_embeds=embeddings[None]).last_hidden_state[0]
    assert torch.allclose(torch.cat(parts), expected, atol=1e-4)


def test_what_an_earlier_prompt_left_in_the_cache_does_not_leak(llama, decoder):
    cache = new_cache()
    long, short = torch.randn(40, 64), torch.randn(10, 64)
    with torch.inference_mode():
        fresh = engine.forward(decoder, cache, short, 0).clone()
        engine.forward(decoder, cache, long, 0)
        again = engine.forward(decoder, cache, short, 0)
    assert torch.equal(fresh, again)


def test_joined_weights_are_kept_once(llama, decoder):
    for layer, module in zip(decoder.layers, llama.model.layers):
        assert layer.qkv.data_ptr() == module.self_attn.q_proj.weight.data_ptr()
        assert layer.gate_up.data_ptr() == module.mlp.gate_proj.weight.data_ptr()
