# SPDX-License-Identifier: Apache-2.0
"""Acceptance: how much of a draft stands before the verifier's own greedy tokens.

A rule is a function of drafted and verified, both (paths, n) int: the tokens of each path as bins and the verifier's greedy
bin at each, and of the dimension 0..6 of their first column; it returns how many tokens of each path it accepts, (paths,).
speculative.py applies a rule.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vla_sd_ros.decoding.settings import Settings
from vla_sd_ros.policy.actions import BINS, ActionStatistics

Rule = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
GROUPS = ((0, 3), (3, 6), (6, 7))  # position, rotation, gripper


def exact(drafted: np.ndarray, verified: np.ndarray, first: int) -> np.ndarray:
    """Accepted lengths (paths,) where only the verifier's own tokens stand; drafted, verified (paths, depth): bins."""
    return _prefix(drafted == verified)


@dataclass(frozen=True)
class Relaxed:
    """Tokens within radius (7,) bins of the verifier's (Spec-VLA, arXiv 2507.22424: 9 in all dimensions)."""

    radius: np.ndarray

    def __call__(self, drafted: np.ndarray, verified: np.ndarray, first: int) -> np.ndarray:
        return _prefix(np.abs(drafted - verified) <= self.radius[first : first + drafted.shape[1]])


@dataclass(frozen=True)
class SequenceWise:
    """Groups position, rotation, gripper, each accepted as a whole (HeiSD, arXiv 2603.17573).

    A group stands when each bias is at most `largest` and their sum at most `total`; the gripper when it is exact.
    """

    largest: int = 15
    total: int = 30

    def __call__(self, drafted: np.ndarray, verified: np.ndarray, first: int) -> np.ndarray:
        biases = np.abs(drafted - verified)
        end = first + biases.shape[1]
        lengths, alive = np.zeros(len(biases), dtype=int), np.ones(len(biases), dtype=bool)
        for low, high in GROUPS:
            low, high = max(low, first), min(high, end)
            if low >= high:
                continue
            group = biases[:, low - first : high - first]
            largest, total = (0, 0) if low == 6 else (self.largest, self.total)
            alive &= (group.max(1) <= largest) & (group.sum(1) <= total)
            lengths[alive] = high - first
        return lengths


def radius_of(settings: Settings, statistics: ActionStatistics) -> np.ndarray:
    """The radius (7,) of relaxed acceptance in bins, also where it is set in metres and radians; the gripper's is 0."""
    per_bin = (statistics.q99 - statistics.q01)[:6] / (BINS - 1)
    physical = np.repeat([settings.relaxed_translation, settings.relaxed_rotation], 3)
    return np.append(np.where(physical > 0, physical / np.maximum(per_bin, 1e-12), settings.relaxed_radius), 0.0)


def _prefix(stands: np.ndarray) -> np.ndarray:
    """Length of the leading run of True in each row."""
    return np.logical_and.accumulate(stands, axis=1).sum(1)
