# SPDX-License-Identifier: Apache-2.0
"""Whether the camera's pictures tell of the world."""

import math
from collections.abc import Mapping

import cv2
import numpy as np

PARTS = 8  # along each side of a picture, of whose mean values the contrast is


class PictureWatch:
    """Whether the picture tells of the world: it can be decoded, it changes while the arm moves, and it has contrast.

    A simulated picture may well stay the same to the last bit, but only as long as nothing moves; one of a camera never
    does.
    """

    def __init__(self) -> None:
        self._pixels: np.ndarray | None = None
        self._joints: dict[str, float] = {}  # at the first sight of this picture
        self._since = 0.0
        self._moved = False
        self._read_at: float | None = None  # the newest picture, or the first image that was none
        self.problem = ""  # why the newest image was no picture; empty where it was one
        self.contrast = math.inf  # contrast(pixels)

    def see(self, pixels: np.ndarray, joints: Mapping[str, float], motion: float, steady: float) -> None:
        """Take a picture, uint8 (height, width, 3), and the positions of the joints by name [rad] at this time [s].

        motion: of one joint, during which the picture must change [rad]; 0: it need not.
        """
        self._read_at, self.problem, self.contrast = steady, "", contrast(pixels)
        if self._pixels is None or not np.array_equal(pixels, self._pixels):
            self._pixels, self._joints, self._since, self._moved = pixels, {}, steady, False
        self._joints = self._joints or dict(joints)
        ways = [abs(joints[name] - before) for name, before in self._joints.items() if name in joints]
        self._moved |= motion > 0.0 and any(way > motion for way in ways)

    def miss(self, problem: str, steady: float) -> None:
        """Take notice of an image of which no picture could be made, for a reason in one sentence, at this time [s]."""
        self.problem = problem
        self._read_at = steady if self._read_at is None else self._read_at

    def unread(self, steady: float) -> float:
        """For how long no picture could be made of the images that came [s]; 0 where the newest one is a picture."""
        return steady - self._read_at if self.problem and self._read_at is not None else 0.0

    def unchanged(self, steady: float) -> float:
        """For how long the picture has been the same while the arm moved [s]; 0 where it changes, or nothing moved."""
        return steady - self._since if self._moved else 0.0


def contrast(pixels: np.ndarray) -> float:
    """How much there is to see in pixels, uint8 (height, width, 3): 0 for one colour, at least 10 for a lit scene.

    Standard deviation of the means of PARTS x PARTS parts of the picture, of the channel that has most. Means are free of the
    sensor's noise; and what a quadratic function of the place explains is taken off first, for that is how a lens that is
    covered, or a wall close to it, gets darker towards its edges. Channels differ in any colour, which tells nothing.
    """
    # As float: rounded means would hide what little a dark scene has.
    means = cv2.resize(pixels.astype(np.float32), (PARTS, PARTS), interpolation=cv2.INTER_AREA)
    left = _BEYOND_QUADRATIC @ means.reshape(-1, 3)
    return float(np.sqrt((left**2).sum(axis=0).max() / (len(left) - 6)))


def _beyond_quadratic() -> np.ndarray:
    """The matrix (n, n) that takes a quadratic function of the place off the values of n = PARTS * PARTS parts."""
    y, x = (axis.ravel() for axis in np.mgrid[-1 : 1 : PARTS * 1j, -1 : 1 : PARTS * 1j])
    functions = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
    return np.eye(len(x)) - functions @ np.linalg.pinv(functions)


_BEYOND_QUADRATIC = _beyond_quadratic()
