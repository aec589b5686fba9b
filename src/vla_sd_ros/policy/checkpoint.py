# SPDX-License-Identifier: Apache-2.0
"""Checkpoint directories: weights, config.json, tokenizer.json, dataset_statistics.json; of two kinds of policy.

The embedded policy's are written here. OpenVLA's are as Hugging Face lays them out: weights in several files with an
index, statistics in config.json too.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from vla_sd_ros.checkpoint_places import CheckpointError, find
from vla_sd_ros.inputs import LARGEST_STEP
from vla_sd_ros.policy import weights
from vla_sd_ros.policy.actions import (
    ActionStatistics,
    check_units,
    choose_statistics,
    parse_statistics,
    read_statistics,
    write_statistics,
)
from vla_sd_ros.policy.config import FusedVisionConfig, TextConfig, VisionConfig, VlaConfig, read_config
from vla_sd_ros.policy.model import DraftHead, VlaModel
from vla_sd_ros.policy.preprocessing import IMAGE_SETTINGS, ImageSettings, parse_settings, settings_of
from vla_sd_ros.policy.prompt import check_llama2, read_tokenizer, word_tokenizer
from vla_sd_ros.policy.quantization import NONE
from vla_sd_ros.policy.random_openvla import RANDOM, random_openvla
from vla_sd_ros.policy.vla import Vla
from vla_sd_ros.quoting import quoted

T = TypeVar("T")
STATISTICS = "dataset_statistics.json"
DRAFT_HEAD = "draft_head.safetensors"  # optional
OTHER_WEIGHTS = {  # files of checkpoints that are something else, and what
    "*--*_checkpoint.pt": "an OpenVLA-OFT checkpoint, whose actions come from a head of their own and not from tokens",
    "adapter_model.safetensors": "a LoRA adapter, to be merged into its base model first",
}


def load(
    checkpoint: str | Path,
    device: str = "cpu",
    unnorm_key: str = "",
    threads: int = 0,
    dtype: str = "",
    images: ImageSettings | None = None,
    quantization: str = NONE,
    largest_step: tuple[float, float] | None = LARGEST_STEP,
) -> Vla:
    """Load a checkpoint: a directory (a path with a / in it), the name of a shipped one, or random-7b or random-tiny-openvla.

    unnorm_key: entry of the action statistics; may be empty when there is only one. threads: CPU threads of torch in
    this process; 0 leaves them as they are. dtype: of OpenVLA's weights, "bfloat16", "float16" or "float32"; empty: as
    stored. images: how OpenVLA's images are prepared; None: as the
    checkpoint's image_settings.json says for the data set, and otherwise as was published. quantization: of the language
    model's matrices, one of quantization.KINDS. largest_step [m], [rad]: what the action statistics may hold along an axis;
    None: whatever, for what does not act. Raises CheckpointError.
    """
    if threads:
        torch.set_num_threads(threads)
    if checkpoint in RANDOM:
        with _naming(checkpoint):
            return random_openvla(str(checkpoint), _device(device), _dtype(dtype) or torch.bfloat16, images, quantization)
    directory = find(checkpoint)
    with _naming(checkpoint):
        return _load(directory, _device(device), unnorm_key, _dtype(dtype), images, quantization, largest_step)


def read_model(checkpoint: str | Path) -> VlaModel:
    """The weights of a checkpoint in single precision, to train on. Raises CheckpointError."""
    directory = find(checkpoint)
    with _naming(checkpoint):
        return weights.read(directory, _file(directory / "config.json", read_config), torch.device("cpu"), torch.float32)


def shape_of(checkpoint: str | Path) -> VlaConfig:
    """The shape of a checkpoint's model, without its weights. Raises CheckpointError."""
    if checkpoint in RANDOM:
        return RANDOM[str(checkpoint)]
    with _naming(checkpoint):
        return _file(find(checkpoint) / "config.json", read_config)


def weights_fingerprint(checkpoint: str | Path) -> str:
    """Sixteen hexadecimal digits that tell the weights of all parts apart, quickly: by some of each tensor.

    Drafts, thresholds and speeds depend on them. Raises CheckpointError.
    """
    if checkpoint in RANDOM:
        return hashlib.sha256(str(checkpoint).encode()).hexdigest()[:16]
    digest = hashlib.sha256()
    with _naming(checkpoint):
        for name, stored in sorted(weights.stored_tensors(find(checkpoint)).items()):
            digest.update(f"{name} {stored.dtype} {stored.shape}".encode())
            digest.update(weights.sample(stored, name))
    return digest.hexdigest()[:16]


def fingerprint(checkpoint: str | Path) -> str:
    """Sixteen hexadecimal digits that tell vision towers apart: what features depend on. Raises CheckpointError.

    Of the weights in the files, so it is the same on every device; training only the language model does not change it.
    """
    if checkpoint in RANDOM:
        return weights_fingerprint(checkpoint)
    digest, found = hashlib.sha256(), False
    try:
        for path in sorted(find(checkpoint).glob("*.safetensors")):
            with safe_open(path, framework="pt") as file:
                for name in sorted(name for name in file.keys() if name.startswith("vision_backbone.")):
                    tensor, found = file.get_tensor(name).contiguous(), True
                    digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                    digest.update(tensor.flatten().view(torch.uint8).numpy())
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"checkpoint {checkpoint} cannot be read: {error}") from error
    if not found:
        raise CheckpointError(f"checkpoint {checkpoint} has no weights of a vision tower")
    return digest.hexdigest()[:16]


def save(
    directory: Path,
    model: VlaModel,
    tokenizer: Tokenizer,
    key: str,
    statistics: ActionStatistics,
    draft_head: dict[str, Tensor] | None = None,
) -> None:
    """Write a checkpoint directory; weights in half precision. draft_head: the state of a DraftHead."""
    directory.mkdir(parents=True, exist_ok=True)
    save_weights(directory / "model.safetensors", model.state_dict())
    if draft_head:
        save_weights(directory / DRAFT_HEAD, draft_head)
    model.config.write(directory / "config.json")
    tokenizer.save(str(directory / "tokenizer.json"))
    write_statistics(directory / "dataset_statistics.json", key, statistics)


def save_weights(path: Path, state: dict[str, Tensor]) -> None:
    """Write weights in half precision."""
    save_file({name: value.to(torch.float16).contiguous() for name, value in state.items()}, path)


def write_random(directory: Path, seed: int = 0) -> None:
    """A tiny checkpoint with random weights, for tests of what surrounds a policy: it moves, but means nothing."""
    torch.manual_seed(seed)
    config = VlaConfig(
        vision=VisionConfig(image_size=32, channels=(8, 16), strides=(4, 2), width=32, layers=1, heads=2),
        text=TextConfig(vocab_size=320, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2),
        projector_width=32,
        action_end=320,
    )
    limits = np.array([0.02] * 3 + [0.05] * 3 + [1.0])
    statistics = ActionStatistics(-limits, limits, np.array([True] * 6 + [False]))
    tokenizer = word_tokenizer(["pick up the milk and place it in the basket"])
    head = DraftHead(config.vision.width, config.text.hidden_size)
    save(directory, VlaModel(config), tokenizer, "random", statistics, head.state_dict())


@contextmanager
def _naming(checkpoint: str | Path) -> Iterator[None]:
    """Puts the checkpoint's name before what is wrong with it."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"checkpoint {str(checkpoint)!r}: {error}") from error


def _load(
    directory: Path,
    device: torch.device,
    unnorm_key: str,
    dtype: torch.dtype | None,
    images: ImageSettings | None,
    kind: str,
    largest_step: tuple[float, float] | None,
) -> Vla:
    config = _file(directory / "config.json", read_config)
    openvla = isinstance(config.vision, FusedVisionConfig)
    image_table = _image_table(directory) if openvla else {}
    if openvla:
        _refuse_others(directory)
        statistics = _openvla_statistics(directory)
    else:
        dtype, images = torch.float32, None
        statistics = _file(directory / STATISTICS, read_statistics)
    tokenizer = _file(directory / "tokenizer.json", read_tokenizer)
    try:
        key = choose_statistics(statistics, unnorm_key)
        check_units(statistics, key, largest_step)
        if openvla:
            check_llama2(tokenizer, config.prompt_end_id)
            images = images or settings_of(key, image_table)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    return Vla(
        weights.read(directory, config, device, dtype, kind),
        tokenizer,
        statistics,
        key,
        device,
        name=directory.name,
        draft_head=draft_head(directory, config),
        images=images,
        quantization=kind,
        largest_step=largest_step,
        image_table=image_table,
    )


def _file(path: Path, read: Callable[[Path], T]) -> T:
    """What `read` makes of a file of a checkpoint; CheckpointError where it is missing or not what it should be."""
    if not path.is_file():
        raise CheckpointError(f"it has no {path.name}")
    try:
        return read(path)
    except CheckpointError:
        raise
    except Exception as error:  # tokenizers raises bare Exception
        raise CheckpointError(f"{path.name} cannot be read: {error}") from error


def _image_table(directory: Path) -> dict[str, ImageSettings]:
    if not (directory / IMAGE_SETTINGS).is_file():
        return {}
    return _file(directory / IMAGE_SETTINGS, lambda path: parse_settings(json.loads(path.read_text())))


def _refuse_others(directory: Path) -> None:
    for pattern, kind in OTHER_WEIGHTS.items():
        for path in directory.glob(pattern):
            raise CheckpointError(f"{path.name} makes it {kind}; only whole models with action tokens can be loaded")


def _openvla_statistics(directory: Path) -> dict[str, ActionStatistics]:
    """Of dataset_statistics.json, which fine-tuning writes, or of norm_stats in config.json."""
    if (directory / STATISTICS).is_file():
        return _file(directory / STATISTICS, read_statistics)
    statistics = _file(
        directory / "config.json", lambda path: parse_statistics(json.loads(path.read_text()).get("norm_stats") or {})
    )
    if not statistics:
        raise CheckpointError(f"it has neither a {STATISTICS} nor norm_stats in config.json: actions cannot be scaled")
    return statistics


def part_of(checkpoint: str | Path, name: str) -> Path | None:
    """A file or folder that a checkpoint, a directory or a shipped one's name, may have of its own; None where it has none."""
    try:
        path = find(checkpoint) / name
    except CheckpointError:
        return None
    return path if path.exists() else None


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise CheckpointError(f"there is no device {name!r}: policy.device is cpu, cuda or cuda:1") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise CheckpointError(f"there is no device {name!r} here, only {torch.cuda.device_count()} CUDA devices and the CPU")
    return device


def load_weights(module: nn.Module, found: dict[str, Tensor], source: str) -> None:
    """Weights into a module, in single precision. source: names them in the CheckpointError when they do not fit."""
    expected = {name: value.shape for name, value in module.state_dict().items()}
    for verb, names in (("lacks", expected.keys() - found.keys()), ("has an unknown", found.keys() - expected.keys())):
        if names:
            raise CheckpointError(f"{source} {verb} tensor {min(names)} ({len(names)} in all)")
    for name, shape in expected.items():
        if found[name].shape != shape:
            raise CheckpointError(
                f"{source}: tensor {name} has shape {tuple(found[name].shape)}, but config.json asks for {tuple(shape)}"
            )
    module.load_state_dict({name: value.float() for name, value in found.items()})


def draft_head(source: str | Path, config: VlaConfig) -> DraftHead | None:
    """The draft head of a checkpoint or of a directory that holds one; None where there is none. Raises CheckpointError."""
    path = None if source in RANDOM else find(source) / DRAFT_HEAD
    if path is None or not path.exists():
        return None
    try:
        found = {name: value.float() for name, value in load_file(path).items()}
        head = DraftHead(config.vision.width, config.text.hidden_size, looks_ahead=any(n.startswith("ahead") for n in found))
        head.load_state_dict(found)
    except (SafetensorError, OSError, RuntimeError) as error:
        sentence = f"{path.name} is not this checkpoint's draft head ({quoted(str(error))}); remove it or train again"
        raise CheckpointError(sentence) from error
    return head


def _dtype(name: str) -> torch.dtype | None:
    types = {"": None, "bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
    if name not in types:
        raise CheckpointError(f"there is no dtype {name!r}: choose one of {', '.join(filter(None, types))}")
    return types[name]
