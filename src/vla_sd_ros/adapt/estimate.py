# SPDX-License-Identifier: Apache-2.0
"""What an adaptation will take, told before it begins: time, disk and memory. Rough: within a factor of two."""

import argparse
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from vla_sd_ros.inputs import BadInput
from vla_sd_ros.policy.batch import BatchedVla
from vla_sd_ros.policy.drafter import DrafterModel
from vla_sd_ros.policy.model import DraftHead
from vla_sd_ros.policy.vla import Vla
from vla_sd_ros.training import answers
from vla_sd_ros.training.answers import DRAFTED
from vla_sd_ros.training.loop import multiplies_bf16
from vla_sd_ros.training.train_head import SPAN, loss_of

MARGIN = 1.1  # of the disk
TEXT = 40  # tokens of a prompt
SAMPLE = 8  # images in a step that is timed


def tell(vla: Vla, arguments: argparse.Namespace, images: int, output: Path) -> None:
    """Print it. Raises BadInput where the disk has no room for it."""
    rows = arguments.images
    head = _step_of_head(vla) * arguments.head_batch * arguments.head_steps
    drafter = _step_of_drafter(vla) * arguments.drafter_batch * arguments.drafter_steps
    parts = {"asking the policy": _asking(vla, rows) * images, "draft head": head, "drafter": drafter}
    disk, free = images * answers.row_bytes(vla.config, TEXT), shutil.disk_usage(output).free
    print(
        f"about {_time(sum(parts.values()))}: "
        + ", ".join(f"{name} {_time(value)}" for name, value in parts.items())
        + f", and then the measurement; {disk / 1e9:.1f} GB on the disk, of {free / 1e9:.1f} GB that are free; of the host's "
        f"memory up to {(arguments.memory * 1e6 + 1.5e9) / 1e9:.1f} GB beside the policy",
        flush=True,
    )
    done = sum(path.stat().st_size for path in (output / "work").rglob("*") if path.is_file())
    if disk * MARGIN - done > free:
        raise BadInput(
            f"the policy's answers to {images} images take {disk / 1e9:.1f} GB, but {output} has {free / 1e9:.1f} GB free: "
            f"give --most {int(images * (free + done) / (disk * MARGIN))}, or another --output"
        )


def _seconds(vla: Vla, work: Callable[[], object]) -> float:
    """Of the second time, when all is warm."""
    took = 0.0
    for _ in range(2):
        begin = time.perf_counter()
        work()
        vla.synchronise()
        took = time.perf_counter() - begin
    return took


def _asking(vla: Vla, rows: int) -> float:
    """Seconds for the answers to an image, of so many at once."""
    batched, black = BatchedVla(vla, rows), [np.zeros((224, 224, 3), np.uint8)] * rows
    return _seconds(vla, lambda: answers.decode(vla, batched, range(rows), black, "put the bowl on the plate")) / rows


def _step_of_head(vla: Vla) -> float:
    """Seconds for an image in a step of the draft head's training."""
    side = getattr(vla.config.vision, "side", 0) ** 2 or vla.config.vision.tokens
    head = DraftHead(vla.config.vision.width, vla.config.text.hidden_size, looks_ahead=True).to(vla.device)
    cells, text = (
        torch.zeros(SAMPLE, *shape, device=vla.device)
        for shape in ((side, vla.config.vision.width), (vla.config.text.hidden_size,))
    )
    bins = torch.zeros(SAMPLE, SPAN, 7, dtype=torch.long, device=vla.device)
    return _seconds(vla, lambda: loss_of(head, cells, text, bins).backward()) / SAMPLE


def _step_of_drafter(vla: Vla) -> float:
    """The same of the drafter's."""
    model = DrafterModel(vla.config.text).to(vla.device)
    states = torch.zeros(SAMPLE, vla.config.vision.tokens + TEXT + DRAFTED, vla.config.text.hidden_size, device=vla.device)
    low_precision = torch.autocast(vla.device.type, torch.bfloat16, vla.device.type == "cuda" or multiplies_bf16())

    def step() -> None:
        with low_precision:
            predicted = model(states, states)
        predicted.float().square().mean().backward()

    return _seconds(vla, step) / SAMPLE


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds > 5400 else f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"
