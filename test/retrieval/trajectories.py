# SPDX-License-Identifier: Apache-2.0
"""Made-up trajectories."""

import numpy as np

from vla_sd_ros.retrieval import Entries, Origin

ORIGIN = Origin("some_policy", "0123456789abcdef", ("demonstrations",))
SENTENCES = ("pick up the milk", "open the drawer")


def entries(features, rng, first_episode=0, steps=10) -> Entries:
    """Entries over these features, `steps` to an episode."""
    features = np.asarray(features, np.float32)
    count = len(features)
    return Entries(
        features / np.linalg.norm(features, axis=1, keepdims=True),
        rng.random((count, 7), np.float32),
        rng.random((count, 3, 7), np.float32),
        np.arange(count, dtype=np.int32) // steps + first_episode,
        np.arange(count, dtype=np.int32) % steps,
    )


def walks(count, size, rng, steps=30):
    """Vectors (count, size) in clusters: episodes that wander from a start of their own."""
    basis = np.random.default_rng(7).standard_normal((16, size), np.float32)
    episodes = -(-count // steps)
    path = rng.normal(size=(episodes, 1, 16)) + 0.3 * rng.normal(size=(episodes, steps, 16)).cumsum(1)
    return path.reshape(-1, 16)[:count].astype(np.float32) @ basis + 0.3 * rng.standard_normal((count, size), np.float32)
