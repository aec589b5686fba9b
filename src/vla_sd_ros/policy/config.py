# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint's config.json says about the model's shape."""

import json
import math
from dataclasses import asdict, dataclass, field
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

from vla_sd_ros.checkpoint_places import EMBEDDED, OPENVLA, CheckpointError
from vla_sd_ros.policy.actions import BINS
from vla_sd_ros.quoting import quoted

# What config.json must say of the one variant of OpenVLA that is implemented: that of openvla-7b and its fine-tunes.
OPENVLA_VARIANT = {
    "vision_backbone_id": "dinosiglip-vit-so-224px",
    "llm_backbone_id": "llama2-7b-pure",
    "arch_specifier": "no-align+fused-gelu-mlp",
    "image_resize_strategy": "resize-naive",
    "n_action_bins": 256,
}
MOST_LAYERS, LARGEST = 512, 10_000_000  # what no size of a model goes beyond: building one would take minutes
PROMPT_END = 29871  # Llama-2's id of a lone space, which ended every prompt that OpenVLA was trained on


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
class TowerConfig:
    """A vision transformer in timm's layout. depth counts the last block too, which a checkpoint has but OpenVLA skips.

    prefix: class token and registers in front of the patches. layer_scale: each branch has a learned scale.
    """

    width: int
    depth: int
    heads: int
    mlp_width: int
    prefix: int = 0
    layer_scale: bool = False


@dataclass(frozen=True)
class FusedVisionConfig:
    """OpenVLA's two vision towers side by side: DINOv2-L/14 with four registers, and SigLIP SO400M/14."""

    image_size: int = 224  # pixels
    patch_size: int = 14
    featurizer: TowerConfig = TowerConfig(1024, 24, 16, 4096, prefix=5, layer_scale=True)
    fused_featurizer: TowerConfig = TowerConfig(1152, 27, 16, 4304)

    @property
    def tokens(self) -> int:
        """Patches, each of which becomes one token of the language model."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def width(self) -> int:
        """Length of a patch's features, those of both towers side by side."""
        return self.featurizer.width + self.fused_featurizer.width


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


LLAMA2_7B = TextConfig(32064, 4096, 11008, 32, 32)


@dataclass(frozen=True)
class VlaConfig:
    """vision, text: shapes of the towers. projector_width: hidden width of the projector.

    action_end: one more than the highest action token id; bin b has the id action_end - 1 - b.
    prompt_end_id: token appended to each prompt, None for none. image_mean, image_std: normalisation of pixels in 0..1;
    one number for everything, or three channels for each tower.
    """

    vision: VisionConfig | FusedVisionConfig = field(default_factory=VisionConfig)
    text: TextConfig = field(default_factory=TextConfig)
    projector_width: int = 384
    action_end: int = 512
    prompt_end_id: int | None = None
    image_mean: float | tuple = 0.5
    image_std: float | tuple = 0.25

    def write(self, path: Path) -> None:
        """As config.json of an embedded policy."""
        path.write_text(json.dumps({"model_type": EMBEDDED, **asdict(self)}, indent=1) + "\n")


Part = VlaConfig | VisionConfig | FusedVisionConfig | TowerConfig | TextConfig  # whose fields are sizes, or parts themselves


def openvla_config(vision: FusedVisionConfig = FusedVisionConfig(), text: TextConfig = LLAMA2_7B, padding: int = 64) -> VlaConfig:
    """OpenVLA. padding: rows at the end of the vocabulary that are no tokens; the 256 tokens before them are the actions.

    Mean and deviation are ImageNet's for DINOv2, rounded to bfloat16: the rounding is in the published preprocessor.
    """
    return VlaConfig(
        vision,
        text,
        projector_width=4 * vision.width,
        action_end=text.vocab_size - padding,
        prompt_end_id=PROMPT_END,
        image_mean=((0.484375, 0.455078125, 0.40625), (0.5, 0.5, 0.5)),
        image_std=((0.228515625, 0.2236328125, 0.224609375), (0.5, 0.5, 0.5)),
    )


def read_config(path: Path) -> VlaConfig:
    """Read config.json. Raises CheckpointError for another kind of model, ValueError for an unknown or missing field."""
    fields = json.loads(path.read_text())
    kind = fields.pop("model_type", None)
    if kind == OPENVLA:
        return _read_openvla(fields)
    if kind != EMBEDDED:
        raise CheckpointError(f"{path.name} has model_type {kind!r}; only {OPENVLA!r} and {EMBEDDED!r} can be loaded")
    try:
        sizes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.pop("vision").items()}
        return checked(VlaConfig(vision=VisionConfig(**sizes), text=TextConfig(**fields.pop("text")), **fields))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"it does not describe a model of this version: {error}") from error


def checked(config: VlaConfig) -> VlaConfig:
    """The same config. Raises CheckpointError for a size that is no size, and for sizes that do not go together."""
    _check_numbers(config, "")
    vision, text = config.vision, config.text
    towers: dict[str, VisionConfig | TowerConfig]
    if isinstance(vision, VisionConfig):
        _require(len(vision.channels) == len(vision.strides), "vision.channels and vision.strides of equal length")
        _require(vision.merge <= vision.side, f"a vision.merge of at most {vision.side}, the cells along a side of the grid")
        towers = {"vision": vision}
    else:
        _require(vision.patch_size <= vision.image_size, "a vision.patch_size of at most vision.image_size")
        towers = {"vision.featurizer": vision.featurizer, "vision.fused_featurizer": vision.fused_featurizer}
    for name, tower in towers.items():
        _require(tower.width % tower.heads == 0, f"a {name}.width that {name}.heads divides")
    _require(
        text.hidden_size % (2 * text.num_attention_heads) == 0, "a text.hidden_size that twice text.num_attention_heads divides"
    )
    _require(
        BINS <= config.action_end <= text.vocab_size,
        f"an action_end from {BINS}, the number of action tokens, to text.vocab_size, {text.vocab_size}",
    )
    _require(config.prompt_end_id is None or config.prompt_end_id < text.vocab_size, "a prompt_end_id below text.vocab_size")
    return config


def _check_numbers(part: Part, within: str) -> None:
    """Raises CheckpointError for an entry of a config whose type or range is not that of its field."""
    for entry in dataclass_fields(part):
        name, value = within + entry.name, getattr(part, entry.name)
        if isinstance(value, Part):
            _check_numbers(value, f"{name}.")
        elif entry.type is bool:
            _require(isinstance(value, bool), f"{name} true or false", value)
        elif entry.type is float:
            _require(_number(value) and value > 0, f"a {name} above 0", value)
        elif entry.type == float | tuple:
            channels = value if isinstance(value, tuple | list) else [value]
            flat = [x for channel in channels for x in (channel if isinstance(channel, tuple | list) else [channel])]
            least = 0.0 if entry.name == "image_std" else -math.inf
            _require(flat and all(_number(x) and x > least for x in flat), f"numbers in {name}" + " above 0" * (least == 0), value)
        elif value is not None or entry.type is int:
            low = 0 if entry.name in ("prefix", "prompt_end_id") else 1
            high = MOST_LAYERS if entry.name in ("layers", "depth", "num_hidden_layers") else LARGEST
            numbers = value if entry.type == tuple[int, ...] and isinstance(value, tuple) and value else [value]
            _require(
                all(type(number) is int and low <= number <= high for number in numbers),
                f"whole numbers from {low} to {high} in {name}",
                value,
            )


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _require(condition: object, what: str, value: object = None) -> None:
    if not condition:
        raise CheckpointError(f"config.json must have {what}" + (f", not {quoted(str(value))}" if value is not None else ""))


def _read_openvla(fields: dict) -> VlaConfig:
    """Published checkpoints name only their parts, whose sizes are the defaults; others may state their own.

    Those are in vision_config, in the names of FusedVisionConfig, and in text_config.
    """
    for name, supported in OPENVLA_VARIANT.items():
        if fields.get(name) != supported:
            siglip = " (a SigLIP-only variant, with its own prompt and letterboxed images)" * (
                name == "vision_backbone_id" and "siglip-vit-so400m" in str(fields.get(name))
            )
            raise CheckpointError(
                f"config.json has {name} {fields.get(name)!r}{siglip}: of OpenVLA only openvla-7b and its fine-tunes "
                f"can be loaded, which have {supported!r}"
            )
    if fields.get("quantization_config"):
        raise CheckpointError("config.json has a quantization_config: only unquantised weights can be loaded")
    sizes = dict(fields.get("vision_config", {}))
    for name in ("featurizer", "fused_featurizer"):
        if name in sizes:
            sizes[name] = TowerConfig(**sizes[name])
    text = _read_llama(fields.get("text_config", {}))
    padding = fields.get("pad_to_multiple_of", 64)
    _require(type(padding) is int and padding >= 0, "a whole number, 0 or more, in pad_to_multiple_of", padding)
    _check_numbers(text, "text.")
    vision = FusedVisionConfig(**sizes)
    _check_numbers(vision, "vision.")
    return checked(openvla_config(vision, text, padding))


def _read_llama(fields: dict) -> TextConfig:
    rope = fields.get("rope_parameters") or fields.get("rope_scaling") or {}
    heads = fields.get("num_attention_heads", LLAMA2_7B.num_attention_heads)
    for name, value, supported in (
        ("model_type", fields.get("model_type"), "llama"),
        ("rope_type", rope.get("rope_type", rope.get("type", "default")), "default"),
        ("num_key_value_heads", fields.get("num_key_value_heads") or heads, heads),
    ):
        if value != supported:
            raise CheckpointError(f"text_config of config.json has {name} {value!r}; only {supported!r} is supported")
    values = {name: fields.get(name, default) for name, default in asdict(LLAMA2_7B).items()}
    return TextConfig(**values | {"rope_theta": rope.get("rope_theta", values["rope_theta"])})
