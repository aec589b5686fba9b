# SPDX-License-Identifier: Apache-2.0
"""Passes of the language model over a static KV cache, batch 1, in the manner of gpt-fast.

The weights come from transformers' Llama modules; these functions only walk over them, so that each pass is a handful of
matrix products without the bookkeeping of a general library.
"""
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaConfig


@dataclass(frozen=True)
class Layer:
    """Weights of one Llama layer, products of the same input joined: qkv (3 h, h), gate_up (2 f, h).

    attention_norm: None where the layer takes its input as it is.
    """

    attention_norm: Tensor | None
    qkv: Tensor
    out: Tensor
    mlp_norm: Tensor
    gate_up: Tensor
    down: Tensor


@dataclass(frozen=True)
class Decoder:
    """A stack of Llama layers. norm: weight of the final norm, None for none. heads: of attention. eps: of every norm."""

    layers: tuple[Layer, ...]
    norm: Tensor | None
    heads: int
    eps: float


def join(layer: nn.Module) -> Layer:
    """Joined weights of a LlamaDecoderLayer, whose own parameters become views of them: nothing is kept twice."""
    attention, mlp = layer.self_attn, layer.mlp
    return Layer(
        getattr(layer.input_layernorm, "weight", None), _join(attention.q_proj, attention.k_proj, attention.v_proj),
        attention.o_proj.weight,
        layer.post_attention_layernorm.weight, _join(mlp.gate_proj, mlp.up_proj), mlp.down_proj.weight,
    )


def _join(*projections: nn.Linear) -> Tensor:
    joined = torch.cat([projection.weight.data for projection in projections])
    for projection, part in zip(projections, joined.split([p.out_features for p in projections])):
        projection.weight = nn.Parameter(part, requires_grad=False)
    return joined


class KvCache:
    """Static keys and values (layers, heads, capacity, head size), and the rotary tables (capacity, head size)."""

    def __init__(self, config: LlamaConfig, capacity: int, device: torch.device, dtype: torch.dtype):
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

    def move(self, source: Tensor, start: int) -> None:
        """Move the entries of the slots `source` (n,), ascending, to the slots start .. start + n - 1."""
        end = start + len(source)
        self.keys[:, :, start:end] = self.keys[:, :, source]
        self.values[:, :, start:end] = self.values[:, :, source]


def forward(
    decoder: Decoder, cache: KvCache, x: Tensor, start: int, positions: Tensor | None = None, mask: Tensor | None = None
) -> Tensor:
    """One pass over embeddings x (n, hidden); their keys and values go to the cache's slots start .. start + n - 1.

    positions (n,): rotary positions, by default the slots. mask (n, start + n) bool: which slots each input sees, by
    default all before it and itself. Returns the final hidden states (n, hidden).
    """
    end = start + x.shape[0]
    if positions is None:
        cosines, sines = cache.cosines[start:end], cache.sines[start:end]
    else:
        cosines, sines = cache.cosines[positions], cache.sines[positions]
    if mask is None and start > 0 and x.shape[0] > 1:
        mask = torch.ones(x.shape[0], end, dtype=torch.bool, device=x.device).tril(start)
    for i, layer in enumerate(decoder.layers):
        x = block(layer, decoder, cache.keys[i], cache.values[i], x, start, cosines, sines, mask)
    return _normalise(x, decoder.norm, decoder.eps)


def block(
    layer: Layer, decoder: Decoder, keys: Tensor, values: Tensor, x: Tensor, start: int, cosines: Tensor, sines: Tensor,
    mask: Tensor | None,
) -> Tensor:
    """One layer over x (n, hidden); keys, values (heads, capacity, head size): its part of the cache."""
    count, width = x.shape
    end = start + count
    h = _normalise(x, layer.attention_norm, decoder.eps)
    qkv = F.linear(h, layer.qkv).view(count, 3, decoder.heads, -1).permute(1, 2, 0, 3)
    query, key = rotate(qkv[:2], cosines, sines)
    keys[:, start:end] = key
    values[:, start:end] = qkv[2]
    attended = F.scaled_dot_product_attention(
        query[None], keys[None, :, :end], values[None, :, :end], attn_mask=mask, is_causal=mask is None and count > 1
    )[0]
    x = x + F.linear(attended.transpose(0, 1).reshape(count, width), layer.out)
    h = _normalise(x, layer.mlp_norm, decoder.eps)
    gate, up = F.linear(h, layer.gate_up).chunk(2, dim=-1)
    return x + F.linear(F.silu(gate) * up, layer.down)


def _normalise(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    return x if weight is None else F.rms_norm(x, x.shape[-1:], weight, eps)


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary position embedding of x (..., n, head size); halves rotate against each other, as in Llama."""
    first, second = x.chunk(2, dim=-1)
    return x * cosines + torch.cat((-second, first), dim=-1) * sines
