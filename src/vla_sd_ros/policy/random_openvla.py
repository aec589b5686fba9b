# SPDX-License-Identifier: Apache-2.0
"""OpenVLA with random weights, made on the device without a file: it moves and means nothing, but takes as long.

random-7b is the published model's size, to measure latency where no checkpoint is at hand; random-tiny-openvla has the
same structure in miniature and runs anywhere.
"""

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

from vla_sd_ros.policy import quantization
from vla_sd_ros.policy.actions import ActionStatistics
from vla_sd_ros.policy.config import FusedVisionConfig, TextConfig, TowerConfig, VlaConfig, openvla_config
from vla_sd_ros.policy.model import VlaModel
from vla_sd_ros.policy.preprocessing import ImageSettings
from vla_sd_ros.policy.prompt import BOS, UNKNOWN
from vla_sd_ros.policy.vla import Vla
from vla_sd_ros.policy.weights import check_memory, fill

TINY = openvla_config(
    FusedVisionConfig(
        image_size=56, featurizer=TowerConfig(64, 3, 2, 128, prefix=5, layer_scale=True), fused_featurizer=TowerConfig(48, 4, 2, 80)
    ),
    TextConfig(vocab_size=32064, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2),
)
RANDOM = {"random-7b": openvla_config(), "random-tiny-openvla": TINY}


def random_openvla(
    name: str,
    device: torch.device,
    dtype: torch.dtype,
    images: ImageSettings | None = None,
    kind: str = quantization.NONE,
    seed: int = 0,
) -> Vla:
    """The policy of a name in RANDOM. Raises CheckpointError when the device has too little memory."""
    model = random_model(RANDOM[name], device, dtype, kind, seed)
    limits = np.array([0.02] * 3 + [0.05] * 3 + [1.0])
    statistics = ActionStatistics(-limits, limits, np.array([True] * 6 + [False]))
    images = images or ImageSettings()
    return Vla(model, _tokenizer(), {"random": statistics}, "random", device, name, images=images, quantization=kind)


def random_model(
    config: VlaConfig, device: torch.device, dtype: torch.dtype, kind: str = quantization.NONE, seed: int = 0
) -> VlaModel:
    """Matrices and positions normal with deviation 0.02, as Llama is initialised; scales 1, biases 0."""
    with torch.device("meta"):
        model = VlaModel(config)
    quantization.check(kind, device, dtype)
    check_memory(model, device, dtype, kind)
    generator = torch.Generator(device).manual_seed(seed)

    def value(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        if len(shape) == 1:
            return torch.full(shape, 0.0 if name.endswith("bias") else 1.0, dtype=dtype, device=device)
        return torch.empty(shape, dtype=dtype, device=device).normal_(0.0, 0.02, generator=generator)

    return fill(model, value, device, kind)


def _tokenizer() -> Tokenizer:
    """One unknown token for each word and sign: prompts come out about as long as Llama-2's."""
    tokenizer = Tokenizer(models.WordLevel({UNKNOWN: 0, BOS: 1}, unk_token=UNKNOWN))
    tokenizer.add_special_tokens([AddedToken(BOS, normalized=False)])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 1)])
    return tokenizer
