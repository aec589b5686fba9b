# SPDX-License-Identifier: Apache-2.0
"""Passes of the language model over a static KV cache, batch 1, in the manner of gpt-fast.

The weights stay in transformers' Llama modules; these functions only walk over them, so that each pass is a handful of
matrix products without the bookkeeping of a general library.
"""
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaForCausalLM


class KvCache:
    """Static keys and values (layers, heads, capacity, head size), and the rotary tables (capacity, head size)."""

    def __init__(self, model: LlamaForCausalLM, capacity: int, device: torch.device, dtype: torch.dtype):
        config = model.config
        head_size = config.hidden_size // config.num_attention_heads
        shape = (config.num_hidden_layers, config.num_attention_heads, capacity, head_size)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros_like(self.keys)
        self.capacity = capacity
        # rotary frequencies in fp32: bf16 positions would lose the last digits of the angle
        frequencies = config.rope_parameters["rope_theta"] ** -(torch.arange(0, head_size, 2).float() / head_size)
        angles = torch.outer(torch.arange(capacity).float(), frequencies).repeat(1, 2)
        self.cosines = angles.cos().to(device=device, dtype=dtype)
        self.sines = angles.sin().to(device=device, dtype=dtype)


def forward(model: LlamaForCausalLM, cache: KvCache, embeddings: Tensor, start: int) -> Tensor:
    """One causal pass over embeddings (n, hidden) at the positions start .. start + n - 1; fills the cache there.

    Returns the final, normalised hidden states (n, hidden).
    """
    count = embeddings.shape[0]
    end = start + count
    eps = model.config.rms_norm_eps
    heads, _, head_size = cache.keys.shape[1:]
    cosines, sines = cache.cosines[start:end], cache.sines[start:end]
    mask = None
    if start > 0 and count > 1:
        mask = torch.ones(count, end, dtype=torch.bool, device=embeddings.device).tril(start)
    x = embeddings
    for i, layer in enumerate(model.model.layers):
        attention, mlp = layer.self_attn, layer.mlp
        h = F.rms_norm(x, x.shape[-1:], layer.input_layernorm.weight, eps)
        query, key, value = (
            projection(h).view(count, heads, head_size).transpose(0, 1)
            for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        cache.keys[i, :, start:end] = rotate(key, cosines, sines)
        cache.values[i, :, start:end] = value
        attended = F.scaled_dot_product_attention(
            rotate(query, cosines, sines), cache.keys[i, :, :end], cache.values[i, :, :end], attn_mask=mask,
            is_causal=start == 0,
        )
        x = x + attention.o_proj(attended.transpose(0, 1).reshape(count, -1))
        h = F.rms_norm(x, x.shape[-1:], layer.post_attention_layernorm.weight, eps)
        x = x + mlp.down_proj(F.silu(mlp.gate_proj(h)) * mlp.up_proj(h))
    return F.rms_norm(x, x.shape[-1:], model.model.norm.weight, eps)


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary position embedding of x (heads, n, head size); halves rotate against each other, as in Llama."""
    first, second = x.chunk(2, dim=-1)
    return x * cosines + torch.cat((-second, first), dim=-1) * sines
