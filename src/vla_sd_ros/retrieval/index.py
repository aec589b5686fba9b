# SPDX-License-Identifier: Apache-2.0
"""Nearest neighbours among unit vectors: an exact product where that is fast enough, above that a graph (HNSW).

Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using hierarchical navigable small world
graphs", 2018. faiss builds and searches it: one query runs in the calling thread, beside torch's own OpenMP.
"""

from pathlib import Path

import numpy as np

EXACT_LIMIT = 2**20  # numbers in a partition; the exact product over so many takes about as long as a query of the graph
CONNECTIONS = 16  # m
EF_CONSTRUCTION = 100
EF_SEARCH = 64


def exact(features: np.ndarray, query: np.ndarray, k: int, allowed: np.ndarray | None = None) -> np.ndarray:
    """Rows of the k largest products of features (N, d) with query (d,), in any order; fewer where fewer are allowed.

    allowed: (N,) bool, None for all.
    """
    distance = features @ -query
    if allowed is not None:
        distance[~allowed] = np.inf
        k = min(k, int(allowed.sum()))
    return np.argpartition(distance, k)[:k] if k < len(distance) else np.arange(len(distance))


class Graph:
    """An HNSW graph over unit vectors, by inner product."""

    def __init__(self, index):
        self._index = index
        self._index.hnsw.efSearch = EF_SEARCH

    @classmethod
    def build(cls, features: np.ndarray) -> "Graph":
        """Over features (N, d) float32; some milliseconds for each vector."""
        import faiss

        index = faiss.IndexHNSWFlat(features.shape[1], CONNECTIONS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = EF_CONSTRUCTION
        index.add(np.ascontiguousarray(features))
        return cls(index)

    @classmethod
    def load(cls, path: Path, shape: tuple[int, int]) -> "Graph":
        """Written by save over features of this shape. Raises ValueError or RuntimeError where the file is not that."""
        import faiss

        index = faiss.read_index(str(path))
        if (index.ntotal, index.d) != shape:
            raise ValueError(f"{path.name} is a graph of {index.ntotal} vectors of {index.d}, not {shape[0]} of {shape[1]}")
        return cls(index)

    def save(self, path: Path) -> None:
        """Write the graph to a file."""
        import faiss

        faiss.write_index(self._index, str(path))

    def search(self, query: np.ndarray, k: int) -> np.ndarray:
        """Rows of about the k largest products with query (d,) float32, in any order."""
        if k > EF_SEARCH:
            import faiss

            rows = self._index.search(query[None], k, params=faiss.SearchParametersHNSW(efSearch=k))[1][0]
        else:
            rows = self._index.search(query[None], k)[1][0]
        return rows[rows >= 0]
