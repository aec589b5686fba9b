# SPDX-License-Identifier: Apache-2.0
"""Limits of one step: how far it may go, and where."""

import numpy as np


def clip_step(displacement: np.ndarray, max_translation: float, max_rotation: float) -> np.ndarray:
    """Shorten a displacement (6,) to at most max_translation [m] and max_rotation [rad]; directions are kept."""
    return np.concatenate([_shorten(displacement[:3], max_translation), _shorten(displacement[3:], max_rotation)])


def clip_position(position: np.ndarray, here: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Clip a position (3,) into the workspace box low .. high [m].

    Where the arm itself is outside the box, `here` (it started there, or the box was made smaller), it may stay or
    come in, but go no farther out: clipping alone must not move the arm.
    """
    return np.clip(position, np.minimum(low, here), np.maximum(high, here))


def _shorten(vector: np.ndarray, longest: float) -> np.ndarray:
    # Divided by the largest entry first: the square of a huge but finite entry would overflow.
    largest = np.abs(vector).max()
    if largest <= longest / 2.0:  # then the norm is at most longest * sqrt(3) / 2
        return vector
    length = largest * np.linalg.norm(vector / largest)
    return vector if length <= longest else vector / largest * (longest / (length / largest))
