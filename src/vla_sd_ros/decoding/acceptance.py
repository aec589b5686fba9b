# SPDX-License-Identifier: Apache-2.0
"""Acceptance: how much of a draft stands before the verifier's own greedy tokens.

A rule is a function of drafted and verified, both (paths, n) int: the tokens of each path as bins and the verifier's greedy
bin at each, and of the dimension 0..6 of their first column; it returns how many tokens of each path it accepts, (paths,).
What is emitted for an accepted token is the draft's, and the first token after them is the verifier's (the bonus token).
"""
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vla_sd_ros.policy.draft import Draft

Rule = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
GROUPS = ((0, 3), (3, 6), (6, 7))  # position, rotation, gripper
BEHIND_THE_END = -10_000  # drafted behind the end of short paths: no rule accepts it


def accept(draft: Draft, opinions: np.ndarray, first: int, rule: Rule) -> list[int]:
    """The longest path that a rule accepts, as nodes from the root on; the first one of equals, empty for none.

    opinions (m + 1,): the verifier's bin before the roots, then after each node. first: dimension of the roots.
    """
    if not len(draft):
        return []
    paths = draft.shape.paths
    drafted = np.where(paths >= 0, draft.bins[paths], BEHIND_THE_END)
    lengths = rule(drafted, opinions[draft.parents + 1][paths], first)
    best = int(lengths.argmax())
    return paths[best, : lengths[best]].tolist()


def exact(drafted: np.ndarray, verified: np.ndarray, first: int) -> np.ndarray:
    """Only the verifier's own tokens."""
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


def recombined(candidates: np.ndarray) -> np.ndarray:
    """Each position group of candidates (k, n >= 6) with each rotation group: up to k * k paths, the given ones first.

    HeiSD's tree across retrievals, in which the verifier may take position and rotation from different demonstrations.
    """
    k = len(candidates)
    pairs = sorted(((i, j) for i in range(k) for j in range(k)), key=lambda pair: pair[0] != pair[1])
    return np.stack([np.concatenate((candidates[i, :3], candidates[j, 3:])) for i, j in pairs])


def _prefix(stands: np.ndarray) -> np.ndarray:
    """Length of the leading run of True in each row."""
    return np.logical_and.accumulate(stands, axis=1).sum(1)
