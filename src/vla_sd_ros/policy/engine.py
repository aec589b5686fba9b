# SPDX-License-Identifier: Apache-2.0
"""Passes of the language model over a static KV cache, in the manner of gpt-fast: forward() of one sequence, the common
case, and forward_rows() of several, each with its own length.

The weights come from transformers' Llama modules; these functions only walk over them, so that each pass is a handful of
matrix products without the bookkeeping of a general library.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from vla_sd_ros.policy.config import TextConfig

JOINED = (  # projections of a LlamaDecoderLayer that take the same input, as Layer has them: qkv, out, gate_up, down
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)


@dataclass(frozen=True)
class Layer:
    """Weights of one Llama layer; matrices that take the same input are joined: qkv (3 h, h), gate_up (2 f, h).

    attention_norm: None where the layer takes its input as it is. The matrices may be quantised, as F.linear takes them.
    """

    attention_norm: Tensor | None
    qkv: Tensor
    out: Tensor
    mlp_norm: Tensor
    gate_up: Tensor
    down: Tensor

    def tensors(self) -> list[Tensor]:
        """All weights that the layer has."""
        return [value for field in fields(self) if (value := getattr(self, field.name)) is not None]


@dataclass(frozen=True)
class Decoder:
    """A stack of Llama layers. norm: weight of the final norm, None for none. heads: of attention. eps: of every norm."""

    layers: tuple[Layer, ...]
    norm: Tensor | None
    heads: int
    eps: float

    @classmethod
    def of(cls, llama: LlamaForCausalLM) -> "Decoder":
        """That of a language model, joined here where loading has not joined its layers."""
        layers = tuple(getattr(layer, "joined", None) or join(layer) for layer in llama.model.layers)
        return cls(layers, llama.model.norm.weight, llama.config.num_attention_heads, llama.config.rms_norm_eps)


def join(layer: nn.Module, quantise: Callable[[Tensor], Tensor] | None = None) -> Layer:
    """Joined weights of a LlamaDecoderLayer, whose own parameters become views of them: nothing is kept twice.

    quantise: what to keep in place of each matrix; the layer's own matrices are given up then.
    """
    qkv, out, gate_up, down = (_join([layer.get_submodule(name) for name in names], quantise) for names in JOINED)
    attention_norm = getattr(layer.input_layernorm, "weight", None)
    return Layer(attention_norm, qkv, out, layer.get_parameter("post_attention_layernorm.weight"), gate_up, down)


def _join(projections: list[nn.Module], quantise: Callable[[Tensor], Tensor] | None) -> Tensor:
    weights = [projection.get_parameter("weight").data for projection in projections]
    joined = torch.cat(weights) if len(weights) > 1 else weights[0]
    for projection, part in zip(projections, joined.split([len(weight) for weight in weights])):
        projection.register_parameter("weight", None if quantise else nn.Parameter(part, requires_grad=False))
    return quantise(joined) if quantise else joined


class KvCache:
    """Static keys and values (layers, heads, capacity, head size), and the rotary tables (capacity, head size).

    rows: with it (layers, rows, heads, capacity, head size), a sequence a row, for forward_rows().
    """

    def __init__(self, config: TextConfig, capacity: int, device: torch.device, dtype: torch.dtype, rows: int | None = None):
        head_size = config.hidden_size // config.num_attention_heads
        several = () if rows is None else (rows,)
        shape = (config.num_hidden_layers, *several, config.num_attention_heads, capacity, head_size)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros_like(self.keys)
        self.capacity = capacity
        # rotary frequencies in fp32: bf16 positions would lose the last digits of the angle
        frequencies = config.rope_theta ** -(torch.arange(0, head_size, 2).float() / head_size)
        angles = torch.outer(torch.arange(capacity).float(), frequencies).repeat(1, 2)
        self.cosines = angles.cos().to(device=device, dtype=dtype)
        self.sines = angles.sin().to(device=device, dtype=dtype)

    def move(self, source: Tensor, start: int, row: int | None = None) -> None:
        """Move the entries of the slots `source` (n,), ascending, to the slots start .. start + n - 1, where there are
        several rows those of one."""
        for cache in (self.keys, self.values):
            own = cache if row is None else cache[:, row]
            own[:, :, start : start + len(source)] = own[:, :, source]

    def forget(self, row: int, start: int) -> None:
        """Write zeros from the slot `start` of a row on. Masked slots must hold finite numbers, too: attention multiplies them
        by 0, and 0 times NaN is NaN, so that one damaged pass would spoil all later ones.
        """
        self.keys[:, row, :, start:] = 0.0
        self.values[:, row, :, start:] = 0.0


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


def forward_rows(
    decoder: Decoder, cache: KvCache, x: Tensor, rows: Tensor | slice, slots: Tensor, positions: Tensor, mask: Tensor
) -> Tensor:
    """One pass over embeddings x (B, n, hidden) of B sequences, in these rows of the cache: numbers (B,), or a slice.

    slots (B, n): where the keys and values of each input go. positions (B, n): rotary positions. mask (B, n, s) bool: which
    of the first s slots each input sees, at least one. Returns the final hidden states (B, n, hidden).
    """
    cosines, sines = cache.cosines[positions][:, None], cache.sines[positions][:, None]
    numbers = torch.arange(rows.stop, device=x.device) if isinstance(rows, slice) else rows
    where, seen = (numbers[:, None], slice(None), slots), mask.shape[-1]
    for i, layer in enumerate(decoder.layers):
        query, key, value = _heads(layer, decoder, x, cosines, sines)
        cache.keys[i][where] = key.transpose(1, 2)
        cache.values[i][where] = value.transpose(1, 2)
        attended = F.scaled_dot_product_attention(
            query, cache.keys[i, rows, :, :seen], cache.values[i, rows, :, :seen], attn_mask=mask[:, None]
        )
        x = _after_attention(layer, decoder, x, attended)
    return _normalise(x, decoder.norm, decoder.eps)


def block(
    layer: Layer,
    decoder: Decoder,
    keys: Tensor,
    values: Tensor,
    x: Tensor,
    start: int,
    cosines: Tensor,
    sines: Tensor,
    mask: Tensor | None,
) -> Tensor:
    """One layer over x (n, hidden); keys, values (heads, capacity, head size): its part of the cache."""
    count = len(x)
    end = start + count
    query, key, value = _heads(layer, decoder, x, cosines, sines)
    keys[:, start:end] = key
    values[:, start:end] = value
    attended = F.scaled_dot_product_attention(
        query[None], keys[None, :, :end], values[None, :, :end], attn_mask=mask, is_causal=mask is None and count > 1
    )[0]
    return _after_attention(layer, decoder, x, attended)


def _heads(layer: Layer, decoder: Decoder, x: Tensor, cosines: Tensor, sines: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rotated queries and keys, and values, each (..., heads, n, head size), of a layer's input x (..., n, hidden)."""
    joined = F.linear(_normalise(x, layer.attention_norm, decoder.eps), layer.qkv)
    qkv = joined.unflatten(-1, (3, decoder.heads, -1)).movedim(-3, 0).transpose(-3, -2)
    query, key = rotate(qkv[:2], cosines, sines)
    return query, key, qkv[2]


def _after_attention(layer: Layer, decoder: Decoder, x: Tensor, attended: Tensor) -> Tensor:
    """A layer's output (..., n, hidden): what attention (..., heads, n, head size) found is added, then the MLP's."""
    x = x + F.linear(attended.transpose(-3, -2).flatten(-2), layer.out)
    gate, up = F.linear(_normalise(x, layer.mlp_norm, decoder.eps), layer.gate_up).chunk(2, dim=-1)
    return x + F.linear(F.silu(gate) * up, layer.down)


def _normalise(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    return x if weight is None else F.rms_norm(x, x.shape[-1:], weight, eps)


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary position embedding of x (..., n, head size); halves rotate against each other, as in Llama."""
    first, second = x.chunk(2, dim=-1)
    return x * cosines + torch.cat((-second, first), dim=-1) * sines
