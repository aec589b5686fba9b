# SPDX-License-Identifier: Apache-2.0
"""Checkpoint directories: model.safetensors, config.json, tokenizer.json, dataset_statistics.json."""
import hashlib
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from vla_sd_ros.policy.actions import ActionStatistics, read_statistics, write_statistics
from vla_sd_ros.policy.config import TextConfig, VisionConfig, VlaConfig, read_config
from vla_sd_ros.policy.model import DraftHead, VlaModel
from vla_sd_ros.policy.prompt import read_tokenizer, word_tokenizer
from vla_sd_ros.policy.vla import Vla

SHIPPED = Path(__file__).parent.parent / "checkpoints"
FILES = ("model.safetensors", "config.json", "tokenizer.json", "dataset_statistics.json")
DRAFT_HEAD = "draft_head.safetensors"  # optional


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message is one sentence that says why and what to do."""


def shipped() -> list[str]:
    """Names of the checkpoints that come with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob("*/config.json"))


def load(checkpoint: str | Path, device: str = "cpu", unnorm_key: str = "", threads: int = 0) -> Vla:
    """Load a checkpoint: a directory, or the name of a shipped one.

    unnorm_key: entry of dataset_statistics.json; may be empty when there is only one. threads: CPU threads of torch in
    this process; 0 leaves them as they are. Raises CheckpointError.
    """
    directory = find(checkpoint)
    for name in FILES:
        if not (directory / name).is_file():
            raise CheckpointError(f"checkpoint {checkpoint} has no {name}: a complete one has {', '.join(FILES)}")
    if threads:
        torch.set_num_threads(threads)
    try:
        config = read_config(directory / "config.json")
        statistics = read_statistics(directory / "dataset_statistics.json")
        tokenizer = read_tokenizer(directory / "tokenizer.json")
    except Exception as error:  # tokenizers raises bare Exception
        raise CheckpointError(f"checkpoint {checkpoint} cannot be read: {error}") from error
    model = _read_model(directory, config, str(checkpoint))
    head = _read_draft_head(directory, config)
    return Vla(model, tokenizer, _choose(statistics, unnorm_key, checkpoint), device, directory.name, head)


def read_model(checkpoint: str | Path) -> VlaModel:
    """The weights of a checkpoint in single precision, to train on. Raises CheckpointError."""
    directory = find(checkpoint)
    return _read_model(directory, read_config(directory / "config.json"), str(checkpoint))


def fingerprint(checkpoint: str | Path) -> str:
    """Sixteen hexadecimal digits that tell vision towers apart: what features depend on. Raises CheckpointError.

    Of the weights in the files, so it is the same on every device; training only the language model does not change it.
    """
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
    directory: Path, model: VlaModel, tokenizer: Tokenizer, key: str, statistics: ActionStatistics,
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
        projector_width=32, action_end=320,
    )
    limits = np.array([0.02] * 3 + [0.05] * 3 + [1.0])
    statistics = ActionStatistics(-limits, limits, np.array([True] * 6 + [False]))
    tokenizer = word_tokenizer(["pick up the milk and place it in the basket"])
    head = DraftHead(config.vision.width, config.text.hidden_size)
    save(directory, VlaModel(config), tokenizer, "random", statistics, head.state_dict())


def find(checkpoint: str | Path) -> Path:
    """The directory of a checkpoint, given as such or by the name of a shipped one. Raises CheckpointError."""
    for directory in (Path(checkpoint), SHIPPED / str(checkpoint)):
        if str(checkpoint) and directory.is_dir():
            return directory
    raise CheckpointError(
        f"checkpoint {str(checkpoint)!r} was not found: give a checkpoint directory or one of the shipped ones "
        f"({', '.join(shipped()) or 'none in this installation'})"
    )


def _read_model(directory: Path, config: VlaConfig, checkpoint: str) -> VlaModel:
    path, model = directory / "model.safetensors", VlaModel(config)
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"checkpoint {checkpoint}: {path.name} cannot be read ({error})") from error
    load_weights(model, weights, f"checkpoint {checkpoint}")
    return model


def load_weights(module: nn.Module, weights: dict[str, Tensor], source: str) -> None:
    """Weights into a module, in single precision. source: names them in the CheckpointError when they do not fit."""
    expected = {name: value.shape for name, value in module.state_dict().items()}
    for verb, names in (("lacks", expected.keys() - weights.keys()), ("has an unknown", weights.keys() - expected.keys())):
        if names:
            raise CheckpointError(f"{source} {verb} tensor {min(names)} ({len(names)} in all)")
    for name, shape in expected.items():
        if weights[name].shape != shape:
            raise CheckpointError(
                f"{source}: tensor {name} has shape {tuple(weights[name].shape)}, "
                f"but config.json asks for {tuple(shape)}"
            )
    module.load_state_dict({name: value.float() for name, value in weights.items()})


def _read_draft_head(directory: Path, config: VlaConfig) -> DraftHead | None:
    path = directory / DRAFT_HEAD
    if not path.exists():
        return None
    head = DraftHead(config.vision.width, config.text.hidden_size)
    try:
        head.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    except (SafetensorError, OSError, RuntimeError) as error:
        raise CheckpointError(f"{path} is not this checkpoint's draft head ({error}); remove it or train again") from error
    return head


def _choose(statistics: dict[str, ActionStatistics], key: str, checkpoint: str | Path) -> ActionStatistics:
    if not key and len(statistics) == 1:
        return next(iter(statistics.values()))
    if key not in statistics:
        raise CheckpointError(
            f"checkpoint {checkpoint} has no statistics {key!r}: set policy.unnorm_key to one of "
            f"{', '.join(sorted(statistics))}"
        )
    return statistics[key]
