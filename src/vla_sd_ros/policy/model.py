# SPDX-License-Identifier: Apache-2.0
"""OpenVLA's structure: vision tower, projector, Llama decoder. Weights only; the passes are in engine.py.

The vision tower and the projector are the embedded policy's small ones, or OpenVLA's own (openvla.py).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from vla_sd_ros.policy.actions import BINS, DIMENSIONS
from vla_sd_ros.policy.config import FusedVisionConfig, TextConfig, VisionConfig, VlaConfig
from vla_sd_ros.policy.openvla import FusedProjector, FusedVision


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
    """Convolutions to a grid of cells, then transformer blocks."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        channels = (3, *config.channels)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inward, outward, 5 if i == 0 else 3, stride, 2 if i == 0 else 1)
            for i, (inward, outward, stride) in enumerate(zip(channels, config.channels, config.strides))
        )
        self.embed = nn.Linear(channels[-1], config.width)
        self.position = nn.Parameter(0.02 * torch.randn(1, config.side**2, config.width))
        self.blocks = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, eps=1e-6)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: (B, 3, H, W) normalised; returns (B, cells, width), row by row."""
        x = pixels
        for convolution in self.convolutions:
            x = F.gelu(convolution(x))
        x = self.embed(x.flatten(2).transpose(1, 2)) + self.position
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class Projector(nn.Module):
    """From squares of the vision tower's cells to the language model's tokens."""

    def __init__(self, vision: VisionConfig, hidden: int, outward: int):
        super().__init__()
        self.side, self.merge = vision.side, vision.merge
        self.fc1 = nn.Linear(vision.merge**2 * vision.width, hidden)
        self.fc2 = nn.Linear(hidden, outward)

    def forward(self, features: Tensor) -> Tensor:
        """features: (B, cells, width); returns (B, tokens, outward)."""
        tokens = self.side // self.merge
        squares = features.unflatten(1, (tokens, self.merge, tokens, self.merge)).transpose(2, 3)
        return self.fc2(F.gelu(self.fc1(squares.flatten(1, 2).flatten(2))))


class DraftHead(nn.Module):
    """Reads an action off the image's cells, asked by the instruction: a draft that is known before the language model
    runs, for the price of one attention with a few queries.

    One that looks ahead also foretells the actions of the next steps, whose images it has not seen, from the same cells and the two
    actions before each.
    """

    QUERIES, HIDDEN, AHEAD = 4, 256, 512
    REACH = 2  # steps that it looks ahead at most
    KNOWN = 2 * len(DIMENSIONS) + REACH  # the two actions before, and how far ahead

    def __init__(self, width: int, text_width: int, looks_ahead: bool = False):
        super().__init__()
        self.key = nn.Linear(width, width, bias=False)  # a bias adds the same to all cells' scores
        self.value = nn.Linear(width, width)
        self.query = nn.Linear(text_width, self.QUERIES * width)
        self.fc1 = nn.Linear(self.QUERIES * width, self.HIDDEN)
        self.fc2 = nn.Linear(self.HIDDEN, len(DIMENSIONS) * BINS)
        if looks_ahead:
            self.ahead1 = nn.Linear(self.QUERIES * width + self.KNOWN, self.AHEAD)
            self.ahead2 = nn.Linear(self.AHEAD, len(DIMENSIONS) * BINS)

    @property
    def looks_ahead(self) -> bool:
        """Whether it foretells the next steps."""
        return hasattr(self, "ahead1")

    def gather(self, features: Tensor, text: Tensor) -> Tensor:
        """features (B, cells, width), text (B, text width), mean of the prompt's embeddings; returns (B, QUERIES * width).

        Ordinary attention, regrouped: q (K f) = (K^T q) f, and the values' projection commutes with the weighted mean, so that
        both projections see a few queries instead of all cells.
        """
        return self.value(F.scaled_dot_product_attention(self.queries(text), features, features)).flatten(1)

    def read(self, gathered: Tensor) -> Tensor:
        """What is known of the action (B, HIDDEN), of what gather() gave."""
        return F.gelu(self.fc1(gathered))

    def queries(self, text: Tensor) -> Tensor:
        """What the text (B, text width) asks each cell: (B, QUERIES, width)."""
        return self.query(text).unflatten(1, (self.QUERIES, -1)) @ self.key.weight

    def forward(self, features: Tensor, text: Tensor) -> Tensor:
        """Action logits (B, 7, 256) in the order of the bins; arguments as in gather()."""
        return self.now(self.gather(features, text))

    def now(self, gathered: Tensor) -> Tensor:
        """The same, of what gather() gave."""
        return self.fc2(self.read(gathered)).unflatten(1, (len(DIMENSIONS), BINS))

    def ahead(self, gathered: Tensor, executed: Tensor, by: Tensor) -> Tensor:
        """Logits (B, 7, 256) of the action so many steps after the one on the image of which this was gathered.

        gathered: of gather(). executed (B, 2, 7) bins: the two actions before it, in their order. by (B,) int, 1 to REACH.
        """
        known = executed.flatten(1) * (2 / (BINS - 1)) - 1, F.one_hot(by - 1, self.REACH).to(gathered)
        return self.ahead2(F.gelu(self.ahead1(torch.cat((gathered, *known), 1)))).unflatten(1, (len(DIMENSIONS), BINS))


class VlaModel(nn.Module):
    """The weights. Names of the parts are those of OpenVLA's checkpoints."""

    def __init__(self, config: VlaConfig):
        super().__init__()
        self.config = config
        vision = config.vision
        self.vision_backbone = FusedVision(vision) if isinstance(vision, FusedVisionConfig) else VisionTower(vision)
        self.projector = projector_of(config)
        self.language_model = LlamaForCausalLM(llama_config(config.text))

    def image_embeddings(self, pixels: Tensor) -> Tensor:
        """pixels (B, 3 or 6, H, W) normalised to embeddings (B, image tokens, hidden)."""
        return self.projector(self.vision_backbone(pixels))

    def text_embeddings(self, ids: Tensor) -> Tensor:
        """ids (...,) to embeddings (..., hidden)."""
        return self.language_model.model.embed_tokens(ids)

    def action_embeddings(self) -> Tensor:
        """Embeddings of the action tokens, in the order of the bins: (256, hidden)."""
        end = self.config.action_end
        return self.language_model.model.embed_tokens.weight[end - BINS : end].flip(0)

    def unused(self) -> set[str]:
        """Names of tensors that a checkpoint may have beyond this model's."""
        if not isinstance(self.vision_backbone, FusedVision):
            return set()
        return {f"vision_backbone.{name}" for name in self.vision_backbone.unused()}

    def action_weight(self) -> Tensor:
        """Rows of the output layer of the action tokens, in the order of the bins: (256, hidden)."""
        end = self.config.action_end
        return self.language_model.lm_head.weight[end - BINS : end].flip(0)


def projector_of(config: VlaConfig) -> nn.Module:
    """A new projector, from the vision tower's cells (B, cells, width) to embeddings (B, image tokens, hidden)."""
    text, hidden = config.text.hidden_size, config.projector_width
    if isinstance(config.vision, FusedVisionConfig):
        return FusedProjector(config.vision.width, hidden, text)
    return Projector(config.vision, hidden, text)


def llama_config(text: TextConfig) -> LlamaConfig:
    """The same as transformers describes a Llama."""
    return LlamaConfig(
        vocab_size=text.vocab_size,
        hidden_size=text.hidden_size,
        intermediate_size=text.intermediate_size,
        num_hidden_layers=text.num_hidden_layers,
        num_attention_heads=text.num_attention_heads,
        rms_norm_eps=text.rms_norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": text.rope_theta},
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        attn_implementation="sdpa",  # type: ignore[call-arg]  # of every model's config, but not among its fields
    )
