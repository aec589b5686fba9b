# SPDX-License-Identifier: Apache-2.0
"""Weights on disk: what is stored, whether it is exactly the model's, and the way onto the device, tensor by tensor.

A model of 15 GB must not need 15 GB twice, nor 15 GB of the host for a GPU. The model is built without memory (on torch's
meta device); each tensor is mapped from its file, copied once, straight to its device and type, and unmapped.
"""

import json
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.torch_version import TorchVersion

from vla_sd_ros.policy import engine, quantization
from vla_sd_ros.policy.config import CheckpointError, VlaConfig
from vla_sd_ros.policy.model import VlaModel

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
SAFE = TorchVersion("2.6")  # the first whose weights_only holds what it says
OVERHEAD = 1.07  # KV cache and activations on top of the weights
GPU_SIZES = (8, 12, 16, 24, 32, 40, 48, 80)  # GB
SAMPLE = 512  # numbers of each tensor that tell one set of weights from another
DRIVER = 1e9  # bytes of a GPU that its driver and the libraries take
LAYER = re.compile(r"language_model\.model\.layers\.(\d+)\.")


def load_plain(path: Path, device: torch.device | str = "cpu") -> Any:
    """What torch.save wrote: tensors, numbers, strings and containers of them. Raises ValueError, with one sentence.

    Such a file is a pickle, which could run code of whoever made it: nothing else is unpickled, and by no torch that could
    be talked round (CVE-2025-32434).
    """
    if torch.__version__ < SAFE:
        raise ValueError(f"torch {torch.__version__} may run code that is hidden in such a file; install torch {SAFE} or newer")
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise ValueError(str(error).partition("\n")[0]) from error


@dataclass(frozen=True)
class Stored:
    """One tensor in a file."""

    path: Path
    shape: tuple[int, ...]
    dtype: torch.dtype


def read(
    directory: Path, config: VlaConfig, device: torch.device, dtype: torch.dtype | None = None, kind: str = quantization.NONE
) -> VlaModel:
    """The model of a checkpoint directory on a device, its weights as stored or in `dtype`, or quantised.

    Raises CheckpointError.
    """
    stored = stored_tensors(directory)
    with torch.device("meta"):
        model = VlaModel(config)
    check(stored, model)
    dtype = dtype or stored["language_model.lm_head.weight"].dtype
    quantization.check(kind, device, dtype)
    check_memory(model, device, dtype, kind)
    return fill(model, lambda name, shape: _read(stored[name].path, name).to(device, dtype, copy=True), device, kind)


def stored_tensors(directory: Path) -> dict[str, Stored]:
    """The tensors of a checkpoint by name, from the headers of model.safetensors or of the files that an index names."""
    index = directory / INDEX
    if not index.is_file():
        return _headers(directory / SINGLE)
    try:
        homes = json.loads(index.read_text())["weight_map"]
        files = sorted({str(file) for file in homes.values()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{INDEX} cannot be read ({error!r})") from error
    absent = [name for name in files if not (directory / name).is_file()]
    if absent:
        raise CheckpointError(f"{INDEX} names {absent[0]}, which is not there ({len(absent)} of {len(files)} files)")
    stored = {}
    for file in files:
        for name, tensor in _headers(directory / file).items():
            if homes.get(name) != file:
                raise CheckpointError(f"{file} has tensor {name}, which {INDEX} does not place there")
            stored[name] = tensor
    lost = homes.keys() - stored.keys()
    if lost:
        name = min(lost)
        raise CheckpointError(f"{homes[name]} lacks tensor {name}, which {INDEX} places there ({len(lost)} in all)")
    return stored


def sample(stored: Stored, name: str) -> bytes:
    """Some numbers of a stored tensor, from its middle."""
    with safe_open(stored.path, framework="pt") as file:
        part = file.get_slice(name)
        middle = stored.shape[0] // 2 if stored.shape else 0
        values = part[middle : middle + 1] if stored.shape else file.get_tensor(name)
        return values.flatten()[:SAMPLE].contiguous().view(torch.uint8).numpy().tobytes()


def check(stored: dict[str, Stored], model: VlaModel) -> None:
    """Every tensor of the model is stored, in its shape, and nothing else but those that it may leave out."""
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    unknown = stored.keys() - expected.keys() - model.unused()
    for verb, names in (("lacks", expected.keys() - stored.keys()), ("has an unknown", unknown)):
        if names:
            raise CheckpointError(f"it {verb} tensor {min(names)} ({len(names)} in all)")
    for name, shape in expected.items():
        if stored[name].shape != shape:
            raise CheckpointError(f"tensor {name} has shape {stored[name].shape}, but config.json asks for {shape}")


def fill(
    model: VlaModel, value: Callable[[str, tuple[int, ...]], Tensor], device: torch.device, kind: str = quantization.NONE
) -> VlaModel:
    """Give a model on the meta device its weights: value(name, shape), on the device.

    A layer of the language model is quantised as soon as it is complete, so that only one at a time is there as it was.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    last = {int(found[1]): name for name in shapes if (found := LAYER.match(name))}
    complete = {name: model.language_model.model.layers[i] for i, name in last.items()}
    quantise = quantization.quantiser(kind)
    for name, shape in shapes.items():
        _assign(model, name, value(name, shape))
        if quantise and name in complete:
            complete[name].joined = engine.join(complete[name], quantise)
    return with_rotary(model, device)


def with_rotary(model: VlaModel, device: torch.device) -> VlaModel:
    """Rotary frequencies are not stored and must be single precision whatever the weights are."""
    llama = model.language_model.model
    llama.rotary_emb = type(llama.rotary_emb)(config=model.language_model.config).to(device)
    return model


def check_memory(model: VlaModel, device: torch.device, dtype: torch.dtype, kind: str = quantization.NONE) -> None:
    """Refuse a model for which the device has no room, before anything is loaded, with what would fit. CheckpointError."""
    needed, available = needed_memory(model, dtype, kind), available_memory(device)
    if needed <= available:
        return
    ways = {"bfloat16": needed_memory(model, torch.bfloat16)}
    ways |= {f"bfloat16 with quantization {k}": needed_memory(model, torch.bfloat16, k) for k in quantization.BYTES}
    if device.type == "cpu":
        del ways["bfloat16 with quantization int4"]  # torchao has it for GPUs alone
    advice = [f"here in {way} ({size / 1e9:.1f} GB)" for way, size in ways.items() if size <= min(available, 0.999 * needed)]
    half, small = ways["bfloat16"], needed_memory(model, torch.bfloat16, "int4")
    for size, way in ((half, "bfloat16"), (small, "bfloat16 with quantization int4")):
        gpus = [gpu for gpu in GPU_SIZES if size + DRIVER < gpu * 1e9]
        if gpus and not (device.type == "cuda" and gpus[0] * 1e9 <= available):
            advice.append(f"on a GPU with {gpus[0]} GB in {way}")
    if device.type == "cuda" and half <= available_memory(torch.device("cpu")):
        advice.append("on this machine's CPU, slowly, in bfloat16")
    elif device.type == "cpu":
        advice.append(f"on a CPU with {half / 1e9:.1f} GB of free memory in bfloat16")
    name = str(dtype).removeprefix("torch.") + ("" if kind == quantization.NONE else f" with quantization {kind}")
    raise CheckpointError(
        f"it needs {needed / 1e9:.1f} GB in {name}, but {device} has {available / 1e9:.1f} GB free: it would fit "
        f"{', or '.join(advice)}"
    )


def needed_memory(model: VlaModel, dtype: torch.dtype, kind: str = quantization.NONE) -> float:
    """Bytes of a model with its cache and activations; where it is quantised, with one layer that is not yet."""
    sizes = {name: prod(value.shape) for name, value in model.state_dict().items()}
    if kind == quantization.NONE:
        return OVERHEAD * sum(sizes.values()) * dtype.itemsize
    matrices = {name: size for name, size in sizes.items() if LAYER.match(name) and not name.endswith("layernorm.weight")}
    count = len(model.language_model.model.layers)
    layers = sum(matrices.values())
    others = sum(sizes.values()) - layers
    return OVERHEAD * (others * dtype.itemsize + layers * quantization.BYTES[kind]) + layers / count * dtype.itemsize


def available_memory(device: torch.device) -> int:
    """Bytes that can still be taken on a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    # psutil reads the same line; for it alone it would be one more library on each robot.
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return 1024 * int(fields["MemAvailable"].split()[0])


def _headers(path: Path) -> dict[str, Stored]:
    if not path.is_file():
        raise CheckpointError(f"it has no {SINGLE} and no {INDEX}")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_slice(name) for name in file.keys()}
            kinds = {name: (tuple(tensor.get_shape()), tensor.get_dtype()) for name, tensor in tensors.items()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path.name} cannot be read, copy it again ({error})") from error
    for name, (_, kind) in kinds.items():
        if kind not in TYPES:
            raise CheckpointError(f"tensor {name} in {path.name} has type {kind}: only unquantised weights can be loaded")
    return {name: Stored(path, shape, TYPES[kind]) for name, (shape, kind) in kinds.items()}


def _read(path: Path, name: str) -> Tensor:
    # opened for each tensor: the pages that a copy has read stay with the process as long as the file is mapped
    with safe_open(path, framework="pt") as file:
        return file.get_tensor(name)


def _assign(model: nn.Module, name: str, value: torch.Tensor) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, nn.Parameter(value))
