# SPDX-License-Identifier: Apache-2.0
"""Weight-only quantisation of the language model's matrices by torchao, layer by layer as they are loaded.

The vision tower, the projector, embeddings, norms and the output layer stay as they are: they are a seventh of OpenVLA, and
none of them is read once a token. torchao is imported only when quantisation is asked for.
"""

from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from vla_sd_ros.policy.config import CheckpointError

NONE = "none"
GROUP = 128  # weights that share a scale and an offset in int4; of a smaller matrix all of a row
BYTES = {"int8": 1.0, "fp8": 1.0, "int4": 0.5 + 4 / GROUP}  # a weight, with what int4 keeps beside them
KINDS = (NONE, *BYTES)


def check(kind: str, device: torch.device, dtype: torch.dtype) -> None:
    """Raises CheckpointError, with one sentence, for an unknown kind and for one that cannot work here."""
    if kind not in KINDS:
        raise CheckpointError(f"there is no quantization {kind!r}: choose one of {', '.join(KINDS)}")
    if kind != NONE and find_spec("torchao") is None:
        raise CheckpointError(f"quantization {kind} needs torchao: pip install 'vla_sd_ros[quantization]'")
    if kind == "int4":
        if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0):
            raise CheckpointError(
                f"quantization int4 needs a CUDA device of compute capability 8.0 or newer, not {device}: use int8"
            )
        if dtype != torch.bfloat16:
            raise CheckpointError("quantization int4 computes in bfloat16 only: set dtype to bfloat16, or use int8")


def quantiser(kind: str) -> Callable[[Tensor], Tensor] | None:
    """What turns a matrix (n, m) into a quantised one, a tensor that F.linear takes; None for no quantisation."""
    if kind == NONE:
        return None
    from torchao.quantization import Float8WeightOnlyConfig, Int4WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

    configs = {
        "int8": lambda width: Int8WeightOnlyConfig(),
        "fp8": lambda width: Float8WeightOnlyConfig(),
        "int4": lambda width: Int4WeightOnlyConfig(
            group_size=GROUP, int4_packing_format="tile_packed_to_4d", set_inductor_config=False
        ),
    }

    def quantise(weight: Tensor) -> Tensor:
        rows, width = weight.shape
        linear = nn.Linear(width, rows, bias=False, device="meta")
        linear.weight = nn.Parameter(weight, requires_grad=False)
        quantize_(linear, configs[kind](width))
        return linear.weight

    return quantise


def stored_bytes(tensor: Tensor) -> int:
    """Memory of a tensor, or of the tensors that a quantised one consists of."""
    if type(tensor) in (Tensor, nn.Parameter) or not hasattr(tensor, "__tensor_flatten__"):
        return tensor.nbytes
    return sum(stored_bytes(getattr(tensor, name)) for name in tensor.__tensor_flatten__()[0])
