# SPDX-License-Identifier: Apache-2.0
"""A test image that every library makes alike, and the sizes in which TensorFlow has prepared it."""

import numpy as np

SIZES = [(480, 640), (256, 256), (100, 150)]
SUBSET = np.s_[3::13, 5::11]  # the pixels that are kept


def pattern(height: int, width: int) -> np.ndarray:
    """A ramp, a moiré and a chess board: smooth parts, edges and everything between, in whole numbers."""
    y, x = np.mgrid[0:height, 0:width]
    red = 255 * (x * x + y) // (width * width + height)
    green = (y * y + 3 * x * y) // 97 % 256
    blue = 255 * ((x // 16 + y // 16) % 2) * y // height
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)
