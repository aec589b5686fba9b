# SPDX-License-Identifier: Apache-2.0
"""A random policy and random episodes, for tests of what learns from a policy."""

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from vla_sd_ros import policy
from vla_sd_ros.recordings import Episode
from vla_sd_ros.training import answers
from vla_sd_ros.training.train_drafter import READ

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
        actions = np.append(rng.uniform(-0.01, 0.01, (steps, 6)), np.ones((steps, 1)), axis=1)
        np.savez(directory / f"episode{i:04d}.npz", images=images, actions=actions, instruction=SENTENCES[i % 2], success=True)
    np.savez(directory / f"episode{count:04d}.npz", success=False)


def ask(vla, images, instruction, folder) -> list:
    """The shards of what a policy says to these images (T, H, W, 3)."""
    actions = np.append(images[:, 0, 0, :1] * np.full((len(images), 6), 1e-5), np.ones((len(images), 1)), axis=1)
    episode = Episode(images, actions.astype(np.float32), instruction, "an episode")
    answers.ask(vla, [episode], folder, pytest.fail, rows=4)
    (one,) = answers.answered(folder, [answers.digest(episode)])
    return list(answers.each(answers.shards_of([one]), READ))
