# SPDX-License-Identifier: Apache-2.0
"""Whether a loaded policy can be what was trained: three actions, of a black and a white image, before an arm moves."""

import time

import numpy as np
import torch

from vla_sd_ros.policy.actions import BINS, DIMENSIONS, decode
from vla_sd_ros.policy.config import CheckpointError
from vla_sd_ros.policy.draft import chain
from vla_sd_ros.policy.quantization import stored_bytes
from vla_sd_ros.policy.vla import Pass, Vla


@torch.inference_mode()
def self_test(vla: Vla) -> str:
    """One line about the policy. Raises CheckpointError when it cannot be what was trained.

    A black and a white image must make a difference to the logits; both must be finite. The statistics must turn every
    token into a finite action. The latency is that of the last of three actions, device-synchronised.
    """
    passes = []
    for grey in (0, 0, 255):  # the first action allocates, and captures what can be captured
        first, elapsed = _action(vla, grey)
        passes.append(first)
    vla.capture_passes()
    if not all(torch.isfinite(first.logits).all() for first in passes):
        raise CheckpointError(f"checkpoint {vla.name} gives logits that are not finite: its weights are damaged")
    if torch.allclose(passes[1].logits, passes[2].logits, atol=1e-4):
        raise CheckpointError(f"checkpoint {vla.name} ignores the image: its vision tower was not loaded")
    _check_statistics(vla)
    count, stored = _weights(vla)
    return (
        f"{vla.name}: {count / 1e6:.1f} M parameters, {vla.precision}, {stored / 1e6:.0f} MB on {vla.device}{_in_use(vla)}, "
        f"{elapsed:.0f} ms an action when warm, self-test passed{_warning(vla, passes[-1])}"
    )


def _action(vla: Vla, grey: int) -> tuple[Pass, float]:
    """The prefill of an action for an image of one grey level, and the time that the whole action took [ms]."""
    size = vla.config.vision.image_size
    vla.synchronise()
    start = time.perf_counter()
    first = vla.prefill(vla.observe(np.full((size, size, 3), grey, np.uint8), "test"))
    bins = first.logits.argmax(-1)
    for _ in range(len(DIMENSIONS) - 1):
        bins = vla.extend(chain(bins.cpu().numpy())).logits.argmax(-1)
        vla.keep([0])
    vla.synchronise()
    return first, 1000 * (time.perf_counter() - start)


def _weights(vla: Vla) -> tuple[int, int]:
    """Numbers and bytes of all weights."""
    llama, (vision, vision_bytes), (language, language_bytes) = vla.model.language_model, *vla.sizes()
    ends = [llama.model.embed_tokens.weight, llama.model.norm.weight, llama.lm_head.weight]  # holds vla.lm_head
    return (
        vision + language - vla.lm_head.numel() + sum(end.numel() for end in ends),
        vision_bytes + language_bytes - stored_bytes(vla.lm_head) + sum(map(stored_bytes, ends)),
    )


def _in_use(vla: Vla) -> str:
    """What the process holds of a GPU's memory, with the caches and graphs beside the weights."""
    if vla.device.type != "cuda":
        return ""
    return f" ({torch.cuda.memory_reserved(vla.device) / 1e6:.0f} MB in use)"


def _check_statistics(vla: Vla) -> None:
    """Raises CheckpointError unless every token is a finite action."""
    actions = vla.statistics.unnormalise(decode(np.repeat(np.arange(BINS)[:, None], len(DIMENSIONS), axis=1)))
    if not np.isfinite(actions).all():
        raise CheckpointError(f"checkpoint {vla.name} gives actions that are not finite: its statistics are damaged")


def _warning(vla: Vla, first: Pass) -> str:
    """What to say when the most likely token after a prompt is no action: the policy was never trained to act."""
    best = int((first.hidden[-1] @ vla.model.language_model.lm_head.weight.T).argmax())  # of the whole vocabulary
    end = vla.config.action_end
    return "" if end - BINS <= best < end else f", BUT token {best}, which is no action, is likelier than any action"
