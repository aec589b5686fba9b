# SPDX-License-Identifier: Apache-2.0
"""OpenVLA's structure: vision tower, projector, Llama decoder. Weights only; the passes are in engine.py."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from vla_sd_ros.policy.config import TextConfig, VisionConfig, VlaConfig


class Block(nn.Module):
    """A pre-norm transformer block with bidirectional attention."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, tokens, width), and so the result."""
        batch, tokens, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        x = x + self.proj(attended.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class VisionTower(nn.Module):
    """Convolutions to a grid of tokens, then transformer blocks."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        channels = (3, *config.channels)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inward, outward, 5 if i == 0 else 3, stride, 2 if i == 0 else 1)
            for i, (inward, outward, stride) in enumerate(zip(channels, config.channels, config.strides))
        )
        self.embed = nn.Linear(channels[-1], config.width)
        self.position = nn.Parameter(0.02 * torch.randn(1, config.tokens, config.width))
        self.blocks = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, eps=1e-6)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: (B, 3, H, W) normalised; returns (B, tokens, width)."""
        x = pixels
        for convolution in self.convolutions:
            x = F.gelu(convolution(x))
        x = self.embed(x.flatten(2).transpose(1, 2)) + self.position
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class Projector(nn.Module):
    """From the vision tower's width to the language model's."""

    def __init__(self, inward: int, hidden: int, outward: int):
        super().__init__()
        self.fc1 = nn.Linear(inward, hidden)
        self.fc2 = nn.Linear(hidden, outward)

    def forward(self, features: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(features)))


class VlaModel(nn.Module):
    """The weights. Names of the parts are those of OpenVLA's checkpoints."""

    def __init__(self, config: VlaConfig):
        super().__init__()
        self.config = config
        self.vision_backbone = VisionTower(config.vision)
        self.projector = Projector(config.vision.width, config.projector_width, config.text.hidden_size)
        self.language_model = LlamaForCausalLM(llama_config(config.text))

    def image_embeddings(self, pixels: Tensor) -> Tensor:
        """pixels (B, 3, H, W) normalised to embeddings (B, image tokens, hidden)."""
        return self.projector(self.vision_backbone(pixels))

    def text_embeddings(self, ids: Tensor) -> Tensor:
        """ids (...,) to embeddings (..., hidden)."""
        return self.language_model.model.embed_tokens(ids)

    def action_weight(self) -> Tensor:
        """Rows of the output layer of the action tokens, in the order of the bins: (256, hidden)."""
        from vla_sd_ros.policy.actions import BINS

        end = self.config.action_end
        return self.language_model.lm_head.weight[end - BINS : end].flip(0)


def llama_config(text: TextConfig) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=text.vocab_size, hidden_size=text.hidden_size, intermediate_size=text.intermediate_size,
        num_hidden_layers=text.num_hidden_layers, num_attention_heads=text.num_attention_heads,
        rms_norm_eps=text.rms_norm_eps, rope_parameters={"rope_type": "default", "rope_theta": text.rope_theta},
        max_position_embeddings=2048, tie_word_embeddings=False,
        attn_implementation="sdpa",
    )
