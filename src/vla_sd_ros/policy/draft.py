# SPDX-License-Identifier: Apache-2.0
"""Drafts: proposed action tokens as a tree, which the verifier judges in one pass."""

import heapq
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np


@dataclass(frozen=True)
class Draft:
    """Nodes in an order in which every parent comes before its children.

    bins (m,) int: the token of each node, as a bin 0..255. parents (m,) int: index of the node that it follows; -1 where
    it follows the tokens that are already committed.
    """

    bins: np.ndarray
    parents: np.ndarray

    def __len__(self) -> int:
        return len(self.bins)

    @cached_property
    def shape(self) -> "Shape":
        """What follows from the parents alone; drafts of the same parents share it."""
        return _shape(tuple(int(parent) for parent in self.parents))


@dataclass(frozen=True)
class Shape:
    """What follows from the parents alone.

    depths (m,): 0 for nodes at the root. ancestry (m, m) bool: row i is true at i and its ancestors. paths (leaves, depth):
    nodes from the root to each leaf, in the order of the leaves, -1 behind the end. chain: whether it is a single path.
    """

    depths: np.ndarray
    ancestry: np.ndarray
    paths: np.ndarray
    chain: bool


@lru_cache(maxsize=1024)
def _shape(parents: tuple[int, ...]) -> Shape:
    count = len(parents)
    ancestry, depths = np.eye(count, dtype=bool), np.zeros(count, dtype=int)
    for node, parent in enumerate(parents):
        if not -1 <= parent < node:
            raise ValueError(f"node {node} of a draft has the parent {parent}; a parent must come before its children")
        if parent >= 0:
            ancestry[node] |= ancestry[parent]
            depths[node] = depths[parent] + 1
    leaves = [node for node in range(count) if node not in parents]
    paths = np.full((len(leaves), int(depths.max(initial=-1)) + 1), -1)
    for row, leaf in zip(paths, leaves):
        path = np.flatnonzero(ancestry[leaf])
        row[: len(path)] = path
    return Shape(depths, ancestry, paths, chain=len(leaves) <= 1)


def chain(bins) -> Draft:
    """A single path of tokens (n,)."""
    bins = np.asarray(bins, dtype=int)
    return Draft(bins, np.arange(len(bins)) - 1)


def merge(chains: np.ndarray) -> Draft:
    """A tree of several paths (k, n) that shares their common beginnings; earlier paths come first."""
    if len(chains) == 1:
        return chain(chains[0])
    bins: list[int] = []
    parents: list[int] = []
    known: dict[tuple[int, int], int] = {}
    for path in np.asarray(chains, dtype=int).tolist():
        node = -1
        for token in path:
            child = known.get((node, token))
            if child is None:
                child = known[node, token] = len(bins)
                bins.append(token)
                parents.append(node)
            node = child
    return Draft(np.array(bins, dtype=int), np.array(parents, dtype=int))


def likeliest(probabilities: np.ndarray, nodes: int, least: float = 0.0) -> Draft:
    """The tree of the most probable token sequences of up to n tokens, which are independent: probabilities (n, bins).

    Each node stands for the tokens from the root to it; its probability is their product. nodes: how many at most. least:
    smallest probability of a node. Best first search: a node that is taken puts its most probable child and its next sibling
    into the queue, neither of which is more probable than it. So parents come before their children, and a smaller tree is
    the beginning of a larger one.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    costs = -np.log(np.maximum(np.take_along_axis(probabilities, order, axis=1), 1e-30))
    bins: list[int] = []
    parents: list[int] = []
    most = -np.log(max(least, 1e-300))
    heap = [(costs[0, 0], 0, -1, 0, 0.0)]  # -log probability, depth, parent, rank among its siblings, the parent's -log p
    while heap and len(bins) < nodes:
        cost, depth, parent, rank, before = heapq.heappop(heap)
        if cost > most:
            break
        node = len(bins)
        bins.append(order[depth, rank])
        parents.append(parent)
        if rank + 1 < order.shape[1]:
            heapq.heappush(heap, (before + costs[depth, rank + 1], depth, parent, rank + 1, before))
        if depth + 1 < len(order):
            heapq.heappush(heap, (cost + costs[depth + 1, 0], depth + 1, node, 0, cost))
    return Draft(np.array(bins, dtype=int), np.array(parents, dtype=int))


def below(root: int, draft: Draft) -> Draft:
    """The draft hung below one token that is known already, for example the verifier's own."""
    return Draft(np.concatenate(([root], draft.bins)), np.concatenate(([-1], draft.parents + 1)))


def places(start: int, fresh: int, draft: Draft, count: int, seen: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the inputs of a pass stand: rotary positions (count,), and which of the cache's first `seen` slots each sees.

    They take the slots from `start` on: `fresh` inputs in sequence, the draft's nodes, and padding up to `count`. Padding sees
    all slots before it, because attention to no slot is not defined. The mask is (count, seen) bool.
    """
    used = fresh + len(draft)
    positions, mask = np.arange(start, start + count), np.tri(count, seen, start, dtype=bool)
    positions[fresh:used] = start + fresh + draft.shape.depths
    mask[fresh:used, start + fresh : start + used] = draft.shape.ancestry
    return positions, mask


EMPTY = chain([])
