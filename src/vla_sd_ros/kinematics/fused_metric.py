# SPDX-License-Identifier: Apache-2.0
"""HeiSD's kinematic fused metric: large where the end effector moves fast and straight, small where slowly and tightly.

F = a Norm(R) + (1 - a) Norm(D) over the last `window` points of its path (HeiSD, arXiv 2603.17573): R is the radius of the
least-squares circle through the points in their own plane, D their displacement.
"""
from collections import deque
from dataclasses import dataclass

import numpy as np

STRAIGHT = 1e3  # [m], radius of points on a line


@dataclass(frozen=True)
class Range:
    """Values from `low` to `high` are normalised to 0..1 and clipped; high is the 95th percentile of calibration."""

    low: float
    high: float

    def __call__(self, value: float) -> float:
        return float(np.clip((value - self.low) / max(self.high - self.low, 1e-12), 0.0, 1.0))


class FusedMetric:
    """F over the newest points. radius, displacement: ranges in metres. alpha: share of the radius.

    definition: "path" takes the path's length as the displacement, as the paper does; "spread" the sum of the distances of
    all points from the newest one, as the released code does.
    """

    def __init__(
        self, radius: Range, displacement: Range, window: int = 15, alpha: float = 0.5, definition: str = "path"
    ):
        if definition not in DISPLACEMENTS:
            raise ValueError(f"unknown displacement {definition!r}: choose one of {', '.join(DISPLACEMENTS)}")
        self._radius, self._displacement, self._alpha = radius, displacement, alpha
        self._measure = DISPLACEMENTS[definition]
        self._points: deque[np.ndarray] = deque(maxlen=window)

    def update(self, position: np.ndarray) -> float:
        """Add the newest position (3,) [m]; returns F in 0..1, NaN before there are three points."""
        self._points.append(np.asarray(position, dtype=float))
        if len(self._points) < 3:
            return float("nan")
        points = np.array(self._points)
        radius, displacement = self._radius(circle_radius(points)), self._displacement(self._measure(points))
        return self._alpha * radius + (1 - self._alpha) * displacement

    def clear(self) -> None:
        self._points.clear()


def circle_radius(points: np.ndarray) -> float:
    """Radius [m] of the circle that fits points (n, 3) best in their own plane; STRAIGHT for points on a line.

    Linear least squares on x^2 + y^2 = 2 a x + 2 b y + c (Kasa, IEEE Trans. Instrum. Meas. 25, 1976).
    """
    centred = points - points.mean(0)
    _, spread, axes = np.linalg.svd(centred, full_matrices=False)
    if spread[1] < 1e-6 * max(spread[0], 1e-9):
        return STRAIGHT
    plane = centred @ axes[:2].T
    solution = np.linalg.lstsq(np.column_stack((2 * plane, np.ones(len(plane)))), (plane**2).sum(1), rcond=None)[0]
    return float(min(np.sqrt(max(solution[2] + solution[:2] @ solution[:2], 0.0)), STRAIGHT))


def path_length(points: np.ndarray) -> float:
    """Length [m] of the polyline through points (n, 3)."""
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())


def spread_from_last(points: np.ndarray) -> float:
    """Sum [m] of the distances of points (n, 3) from the last one."""
    return float(np.linalg.norm(points - points[-1], axis=1).sum())


DISPLACEMENTS = {"path": path_length, "spread": spread_from_last}
