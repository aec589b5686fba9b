# SPDX-License-Identifier: Apache-2.0
"""A random policy and random episodes, for tests of what learns from a policy."""
import numpy as np
from safetensors.torch import load_file, save_file

from vla_sd_ros import policy

SENTENCES = ["pick up the milk", "pick up the milk and place it in the basket"]


def write_policy(directory, seed=0) -> None:
    """Random weights, whose tokens differ in probability as those of a trained policy do."""
    policy.write_random(directory, seed)
    path, name = directory / "model.safetensors", "language_model.lm_head.weight"
    weights = load_file(path)
    save_file({**weights, name: weights[name] * 30}, path)


def write_episodes(directory, count=6, steps=8) -> None:
    """Random images; the last episode is a failed attempt, which has none."""
    rng = np.random.default_rng(0)
    directory.mkdir()
    for i in range(count):
        images = rng.integers(0, 255, (steps, 32, 32, 3), np.uint8)
        np.savez(directory / f"episode{i:04d}.npz", images=images, actions=np.zeros((steps, 7)), instruction=SENTENCES[i % 2],
                 success=True)
    np.savez(directory / f"episode{count:04d}.npz", success=False)
