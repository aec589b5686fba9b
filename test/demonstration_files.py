# SPDX-License-Identifier: Apache-2.0
"""Small demonstrations, as `vla-sd collect` leaves them."""

import numpy as np


def write(path, seed, success=True, **changes):
    """As sim/demonstrations.py saves one."""
    rng = np.random.default_rng(seed)
    arrays = {
        "images": rng.integers(0, 255, (5, 16, 16, 3)).astype(np.uint8),
        "actions": rng.uniform(-0.02, 0.02, (5, 7)),
        "executed": rng.uniform(-0.02, 0.02, (5, 7)),
        "instruction": "pick up the milk",
        "success": success,
    } | changes
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return arrays
