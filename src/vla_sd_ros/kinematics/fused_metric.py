# SPDX-License-Identifier: Apache-2.0
"""HeiSD's kinematic fused metric: large where the end effector moves fast and straight, small where slowly and tightly.

F = a Norm(R) + (1 - a) Norm(D) over the last `window` points of its path (HeiSD, arXiv 2603.17573): R is the radius of the
least-squares circle through the points in their own plane, D their displacement.
"""

from collections import deque
from collections.abc import Callable
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
    all points from the newest one, as the released code does. radius_of: of points (n, 3), in metres.
    """

    def __init__(
        self,
        radius: Range,
        displacement: Range,
        window: int = 15,
        alpha: float = 0.5,
        definition: str = "path",
        radius_of: Callable[[np.ndarray], float] | None = None,
    ):
        if definition not in DISPLACEMENTS:
            raise ValueError(f"unknown displacement {definition!r}: choose one of {', '.join(DISPLACEMENTS)}")
        self._radius, self._displacement, self._alpha = radius, displacement, alpha
        self._radius_of, self._displacement_of = radius_of or circle_radius, DISPLACEMENTS[definition]
        self._points: deque[np.ndarray] = deque(maxlen=window)

    def update(self, position: np.ndarray) -> float:
        """Add the newest position (3,) [m]; returns value()."""
        self._points.append(np.asarray(position, dtype=float))
        return self.value()

    def value(self) -> float:
        """F in 0..1; NaN before there are three points, and where the radius is."""
        if len(self._points) < 3:
            return float("nan")
        points = np.array(self._points)
        radius, displacement = self._radius(self._radius_of(points)), self._displacement(self._displacement_of(points))
        return self._alpha * radius + (1 - self._alpha) * displacement

    def clear(self) -> None:
        """Forget all points."""
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


def mean_distance(points: np.ndarray) -> float:
    """Mean distance [m] of points (n, 3) from their centroid, in their own plane; NaN up to 1e-6 m.

    This is what the released code of HeiSD takes for the radius: it fits a circle by iteration from the centroid, where the
    residuals of evenly spaced points have no slope, so that it stays there.
    """
    _, _, axes = np.linalg.svd(points - points.mean(0), full_matrices=False)
    distance = float(np.linalg.norm((points - points.mean(0)) @ axes[:2].T, axis=1).mean())
    return distance if distance > 1e-6 else float("nan")


def path_length(points: np.ndarray) -> float:
    """Length [m] of the polyline through points (n, 3)."""
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())


def spread_from_last(points: np.ndarray) -> float:
    """Sum [m] of the distances of points (n, 3) from the last one."""
    return float(np.linalg.norm(points - points[-1], axis=1).sum())


DISPLACEMENTS = {"path": path_length, "spread": spread_from_last}
