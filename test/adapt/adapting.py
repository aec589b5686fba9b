# SPDX-License-Identifier: Apache-2.0
"""Small policies, recordings and adaptations of them."""

import sys
from pathlib import Path

import demonstration_files
import numpy as np
import torch

sys.path[:0] = [str(Path(__file__).parents[1] / room) for room in ("policy", "training")]

import openvla_checkpoint  # noqa: E402

from vla_sd_ros.cli import main  # noqa: E402

BRIDGE = Path(__file__).parents[2] / ".." / "shared" / "data" / "bridge_dataset"
SENTENCES = ("pick up the milk", "pick up the milk and place it in the basket")
SHORT = [
    "--head-steps",
    "20",
    "--head-batch",
    "16",
    "--drafter-steps",
    "10",
    "--drafter-batch",
    "8",
    "--processes",
    "1",
    "--tree-steps",
    "0",
]


def write_openvla(folder: Path, seed: int = 0) -> Path:
    """A small checkpoint of random weights in OpenVLA's layout."""
    tensors = openvla_checkpoint.random_tensors(openvla_checkpoint.shapes(), torch.bfloat16, seed)
    openvla_checkpoint.write(folder, tensors)
    return folder


def write_recordings(folder: Path, count: int = 6, steps: int = 5, size: int = 16) -> Path:
    """Episodes of `vla-sd collect`, of random pictures and motions."""
    rng = np.random.default_rng(1)
    for i in range(count):
        actions = np.append(rng.uniform(-0.01, 0.01, (steps, 6)), np.ones((steps, 1)), axis=1)
        images = rng.integers(0, 255, (steps, size, size, 3)).astype(np.uint8)
        demonstration_files.write(folder / f"episode{i:04d}.npz", i, images=images, actions=actions, instruction=SENTENCES[i % 2])
    return folder


def command(policy: Path, source: Path, output: Path, *more: str) -> list[str]:
    return ["adapt", "--checkpoint", str(policy), "--source", str(source), "--output", str(output), *SHORT, *more]


def adapt(*arguments) -> int:
    return main(command(*arguments))
