# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint's config.json says about the model's shape."""
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

EMBEDDED = "vla_sd_embedded"


@dataclass(frozen=True)
class VisionConfig:
    """The embedded policy's vision tower: strided convolutions to a grid of cells, then transformer blocks.

    merge: side of the square of neighbouring cells that become one token of the language model.
    """

    image_size: int = 160  # pixels
    channels: tuple[int, ...] = (24, 64, 96, 128, 192)
    strides: tuple[int, ...] = (2, 2, 2, 1, 2)
    width: int = 192
    layers: int = 2
    heads: int = 3
    merge: int = 2

    @property
    def side(self) -> int:
        """Cells along one side of the grid."""
        side = self.image_size
        for stride in self.strides:
            side = -(-side // stride)
        return side

    @property
    def tokens(self) -> int:
        """Tokens of the language model that one image becomes."""
        return (self.side // self.merge) ** 2


@dataclass(frozen=True)
class TextConfig:
    """A Llama decoder, in the names of transformers.LlamaConfig."""

    vocab_size: int = 512
    hidden_size: int = 192
    intermediate_size: int = 512
    num_hidden_layers: int = 6
    num_attention_heads: int = 3
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0


@dataclass(frozen=True)
class VlaConfig:
    """vision, text: shapes of the towers. projector_width: hidden width of the projector.

    action_end: one more than the highest action token id; bin b has the id action_end - 1 - b.
    prompt_end_id: token appended to each prompt, None for none. image_mean, image_std: normalisation of pixels in 0..1.
    """

    vision: VisionConfig = field(default_factory=VisionConfig)
    text: TextConfig = field(default_factory=TextConfig)
    projector_width: int = 384
    action_end: int = 512
    prompt_end_id: int | None = None
    image_mean: float = 0.5
    image_std: float = 0.25

    def write(self, path: Path) -> None:
        path.write_text(json.dumps({"model_type": EMBEDDED, **asdict(self)}, indent=1) + "\n")


def read_config(path: Path) -> VlaConfig:
    """Read config.json. Raises ValueError for another kind of model or an unknown field."""
    fields = json.loads(path.read_text())
    kind = fields.pop("model_type", None)
    if kind != EMBEDDED:
        raise ValueError(f"{path.name} has model_type {kind!r}; only {EMBEDDED!r} can be loaded")
    try:
        vision = fields.pop("vision")
        vision = VisionConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in vision.items()})
        return VlaConfig(vision=vision, text=TextConfig(**fields.pop("text")), **fields)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path.name} does not describe a model of this version: {error}") from error
