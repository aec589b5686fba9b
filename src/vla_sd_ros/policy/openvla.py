# SPDX-License-Identifier: Apache-2.0
"""OpenVLA's vision towers and projector, each part named as in its checkpoints, so that loading translates nothing.

The towers are timm's vision transformers without their last block, final norm and pooling, which OpenVLA never runs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_sd_ros.policy.config import FusedVisionConfig, TowerConfig

POOLING = ("q", "kv", "proj", "norm", "mlp.fc1", "mlp.fc2")  # layers of SigLIP's, each with weight and bias


class Attention(nn.Module):
    """Bidirectional self-attention."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, tokens, width), and so the result."""
        batch, tokens, width = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads)
        attended = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4))
        return self.proj(attended.transpose(1, 2).reshape(batch, tokens, width))


class Mlp(nn.Module):
    """Two layers with GELU between them."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., width), and so the result."""
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    """A learned factor for each feature."""

    def __init__(self, width: int):
        super().__init__()
        self.scale_factor = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., width), and so the result."""
        return x * self.scale_factor


class TowerBlock(nn.Module):
    """A pre-norm transformer block with bidirectional attention."""

    def __init__(self, config: TowerConfig):
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=1e-6)
        self.attn = Attention(config.width, config.heads)
        self.ls1 = LayerScale(config.width) if config.layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(config.width, eps=1e-6)
        self.mlp = Mlp(config.width, config.mlp_width)
        self.ls2 = LayerScale(config.width) if config.layer_scale else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, tokens, width), and so the result."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class Tower(nn.Module):
    """One vision transformer up to its last block but one."""

    def __init__(self, config: TowerConfig, image_size: int, patch_size: int):
        super().__init__()
        self.prefix, self.skipped_block = config.prefix, config.depth - 1
        if config.prefix:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
            self.reg_token = nn.Parameter(torch.zeros(1, config.prefix - 1, config.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, (image_size // patch_size) ** 2, config.width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, config.width, patch_size, patch_size)})
        self.blocks = nn.ModuleList(TowerBlock(config) for _ in range(config.depth - 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels (B, 3, H, W) normalised to features (B, patches, width), with no final norm."""
        x = self.patch_embed["proj"](pixels).flatten(2).transpose(1, 2) + self.pos_embed
        if self.prefix:
            batch = len(pixels)
            x = torch.cat((self.cls_token.expand(batch, -1, -1), self.reg_token.expand(batch, -1, -1), x), dim=1)
        for block in self.blocks:
            x = block(x)
        return x[:, self.prefix :]

    def unused(self) -> set[str]:
        """Names of the tensors that a checkpoint has of a whole tower, but this one lacks."""
        block = {f"blocks.{self.skipped_block}.{name}" for name in self.blocks[0].state_dict()}
        layers = ["norm"] if self.prefix else ["norm", *(f"attn_pool.{layer}" for layer in POOLING)]
        latent = set() if self.prefix else {"attn_pool.latent"}
        return block | latent | {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}


class FusedVision(nn.Module):
    """DINOv2 and SigLIP on the same image, each with its own normalisation; their features side by side."""

    def __init__(self, config: FusedVisionConfig):
        super().__init__()
        self.featurizer = Tower(config.featurizer, config.image_size, config.patch_size)
        self.fused_featurizer = Tower(config.fused_featurizer, config.image_size, config.patch_size)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels (B, 6, H, W), three channels for each tower, to (B, patches, sum of widths)."""
        dino, siglip = pixels.split(3, dim=1)
        return torch.cat((self.featurizer(dino), self.fused_featurizer(siglip)), dim=-1)

    def unused(self) -> set[str]:
        """Names, within this module, of the tensors of a checkpoint that are not needed."""
        towers = {"featurizer": self.featurizer, "fused_featurizer": self.fused_featurizer}
        return {f"{name}.{tensor}" for name, tower in towers.items() for tensor in tower.unused()}


class FusedProjector(nn.Module):
    """From the towers' width to the language model's, by way of `hidden`."""

    def __init__(self, inward: int, hidden: int, outward: int):
        super().__init__()
        self.fc1 = nn.Linear(inward, hidden)
        self.fc2 = nn.Linear(hidden, outward)
        self.fc3 = nn.Linear(outward, outward)

    def forward(self, features: Tensor) -> Tensor:
        """features (B, patches, inward) to embeddings (B, patches, outward)."""
        return self.fc3(F.gelu(self.fc2(F.gelu(self.fc1(features)))))
