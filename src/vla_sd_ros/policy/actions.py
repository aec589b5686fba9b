# SPDX-License-Identifier: Apache-2.0
"""Action tokens: seven of 256 bins over [-1, 1], and the statistics that turn them into metres and radians.

The arithmetic is OpenVLA's (prismatic ActionTokenizer): 256 edges make 255 centres, token id = end - digit.
"""
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DIMENSIONS = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
BINS = 256
_EDGES = np.linspace(-1.0, 1.0, BINS)
_CENTRES = (_EDGES[:-1] + _EDGES[1:]) / 2


def encode(normalised: np.ndarray) -> np.ndarray:
    """Bins (..., 7) int in 0..255 of normalised actions (..., 7) in [-1, 1]; values outside are clipped."""
    return np.digitize(np.clip(normalised, -1.0, 1.0), _EDGES) - 1


def decode(bins: np.ndarray) -> np.ndarray:
    """Normalised actions (..., 7) in (-1, 1) of bins (..., 7): bin centres; bins 254 and 255 share the last one."""
    return _CENTRES[np.clip(bins, 0, BINS - 2)]


@dataclass(frozen=True)
class ActionStatistics:
    """q01, q99 (7,): 1st and 99th percentile of each dimension. mask (7,): False where values are raw (gripper)."""

    q01: np.ndarray
    q99: np.ndarray
    mask: np.ndarray

    def unnormalise(self, normalised: np.ndarray) -> np.ndarray:
        """Actions (..., 7) in metres, radians and gripper opening: 0.5 (a + 1) (q99 - q01) + q01 where masked."""
        scaled = 0.5 * (normalised + 1.0) * (self.q99 - self.q01) + self.q01
        return np.where(self.mask, scaled, normalised)

    def normalise(self, actions: np.ndarray) -> np.ndarray:
        """The inverse of unnormalise, clipped to [-1, 1]."""
        span = np.where(self.mask, self.q99 - self.q01, 1.0)
        scaled = 2.0 * (actions - self.q01) / span - 1.0
        return np.clip(np.where(self.mask, scaled, actions), -1.0, 1.0)


def statistics_of(actions: np.ndarray) -> ActionStatistics:
    """Statistics of a data set's actions (N, 7); the gripper stays raw, as in bridge_orig."""
    mask = np.array([True] * 6 + [False])
    return ActionStatistics(np.quantile(actions, 0.01, axis=0), np.quantile(actions, 0.99, axis=0), mask)


def read_statistics(path: Path) -> dict[str, ActionStatistics]:
    """All entries of a dataset_statistics.json, by key. Raises ValueError naming the key whose entry is malformed."""
    entries = {}
    for key, entry in json.loads(path.read_text()).items():
        action = entry.get("action", {})
        if any(len(action.get(name, ())) != len(DIMENSIONS) for name in ("q01", "q99")):
            raise ValueError(f"{path.name} has no q01 and q99 of seven numbers under {key!r}")
        mask = action.get("mask", [True] * 6 + [False])
        entries[key] = ActionStatistics(
            np.asarray(action["q01"], dtype=float), np.asarray(action["q99"], dtype=float), np.asarray(mask, dtype=bool)
        )
    return entries


def write_statistics(path: Path, key: str, statistics: ActionStatistics) -> None:
    """Write one entry as a dataset_statistics.json."""
    action = {name: getattr(statistics, name).tolist() for name in ("q01", "q99", "mask")}
    path.write_text(json.dumps({key: {"action": action}}, indent=1) + "\n")
