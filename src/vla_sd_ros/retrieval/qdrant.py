# SPDX-License-Identifier: Apache-2.0
"""The trajectory database on a Qdrant server, for a fleet: the same questions and answers as the embedded one.

One collection for each instruction, named PREFIX_FINGERPRINT_HASH, so databases of several checkpoints live side by side.
"""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vla_sd_ros.instruction import normalized
from vla_sd_ros.retrieval.database import ADVICE, DatabaseError, DatabaseUnavailable, Neighbours, TrajectoryDatabase, unit
from vla_sd_ros.retrieval.index import CONNECTIONS, EF_CONSTRUCTION, EF_SEARCH

UPLOAD_TIMEOUT = 60.0  # [s] for one batch
BATCH = 256
PAUSE = 5.0  # [s] without asking after the server did not answer: a dead server must not cost every step its timeout


class QdrantDatabase:
    """Answers query as TrajectoryDatabase does. Not thread safe.

    location: URL of a server, ":memory:", or a path where Qdrant's local mode keeps its files. fingerprint:
    policy.fingerprint of the policy that asks. timeout [s]: for connecting, and for each wait on the server.
    No connection is made before it is needed. Raises DatabaseError where qdrant-client is missing.
    """

    def __init__(
        self, location: str | Path, fingerprint: str, timeout: float = 0.1, api_key: str | None = None, prefix: str = "vla_sd"
    ):
        self.location, self.fingerprint = str(location), fingerprint
        self.prefix = f"{prefix}_{fingerprint}_"
        self._family = f"{prefix}_"
        self._api_key = api_key
        self._remote = "://" in self.location
        self._client = self._connect(timeout)
        self._sizes: dict[str, int] = {}  # of collections that were seen
        self._silent_until = 0.0

    def verify(self, feature_size: int | None = None) -> int:
        """The number of entries. Raises DatabaseError where there are none, of another size, or none of this checkpoint."""
        names = self._ask(lambda: [collection.name for collection in self._client.get_collections().collections])
        mine = [name for name in names if name.startswith(self.prefix)]
        others = sorted({name[len(self._family) :].split("_")[0] for name in names if name.startswith(self._family)})
        if not mine and others:
            raise DatabaseError(
                f"{self.location} has trajectory databases of other checkpoints only (vision towers {', '.join(others)}, not "
                f"{self.fingerprint}): {ADVICE} for this one"
            )
        count = sum(self._ask(lambda: self._client.count(name).count) for name in mine)
        if not count:
            raise DatabaseError(
                f"{self.location} has no trajectory database of this checkpoint: upload one with `vla-sd build-db --qdrant`"
            )
        for name in mine:
            size = self._size(name)
            if feature_size is not None and size != feature_size:
                raise DatabaseError(
                    f"the trajectory database on {self.location} has features of size {size}, but the policy gives "
                    f"{feature_size}: {ADVICE} for this checkpoint"
                )
        return count

    def query(self, features: np.ndarray, instruction: str, k: int = 5, exclude_episode: int | None = None) -> Neighbours:
        """As TrajectoryDatabase.query. Raises DatabaseUnavailable where the server does not answer in time.

        After that it is not asked for some seconds, and queries raise at once.
        """
        from qdrant_client import models

        name = self._collection(normalized(instruction))
        size = self._size(name)
        if size is None:
            return Neighbours.none()
        others = None
        if exclude_episode is not None:
            same = models.FieldCondition(key="episode", match=models.MatchValue(value=exclude_episode))
            others = models.Filter(must_not=[same])
        found = self._ask(
            lambda: self._client.query_points(
                name,
                query=unit(features, size).tolist(),
                limit=k,
                query_filter=others,
                with_payload=True,
                search_params=models.SearchParams(hnsw_ef=max(EF_SEARCH, k)) if self._remote else None,
            )
        ).points
        if not found:
            return Neighbours.none()
        payloads = [point.payload for point in found]
        return Neighbours(
            np.array([payload["action"] for payload in payloads], np.float32),
            np.array([payload["upcoming"] for payload in payloads], np.float32),
            np.array([point.score for point in found], np.float32),
            np.array([payload["episode"] for payload in payloads], np.int32),
            np.array([payload["step"] for payload in payloads], np.int32),
        )

    def upload(self, database: TrajectoryDatabase, stepped: Callable[[int], object] = lambda count: None) -> None:
        """Put a database there, in place of what its instructions had before. stepped: called with the size of each batch.

        Raises DatabaseError for a database of another checkpoint, DatabaseUnavailable.
        """
        from qdrant_client import models

        if database.origin.fingerprint != self.fingerprint:
            raise DatabaseError(
                f"a database of vision tower {database.origin.fingerprint} cannot be uploaded as one of {self.fingerprint}"
            )
        client = self._connect(UPLOAD_TIMEOUT) if self._remote else self._client
        vectors = models.VectorParams(size=database.feature_size, distance=models.Distance.COSINE)
        graph = models.HnswConfigDiff(m=CONNECTIONS, ef_construct=EF_CONSTRUCTION)
        for key, entries in database.partitions.items():
            name = self._collection(key)
            self._ask(lambda: client.delete_collection(name))
            self._ask(lambda: client.create_collection(name, vectors_config=vectors, hnsw_config=graph))
            for start in range(0, len(entries), BATCH):
                rows = range(start, min(start + BATCH, len(entries)))
                points = models.Batch(
                    ids=list(rows),
                    vectors=entries.features[rows.start : rows.stop].tolist(),
                    payloads=[
                        {
                            "action": entries.actions[i].tolist(),
                            "upcoming": entries.upcoming[i].tolist(),
                            "episode": int(entries.episodes[i]),
                            "step": int(entries.steps[i]),
                            "instruction": key,
                            "episode_name": database.episode_names[entries.episodes[i]],
                            "checkpoint": database.origin.checkpoint,
                        }
                        for i in rows
                    ],
                )
                self._ask(lambda: client.upsert(name, points, wait=True))
                stepped(len(rows))

    def _collection(self, key: str) -> str:
        return self.prefix + hashlib.sha256(key.encode()).hexdigest()[:16]

    def _size(self, name: str) -> int | None:
        """Size of a collection's vectors; None where there is no such collection."""
        if name not in self._sizes:
            if not self._ask(lambda: self._client.collection_exists(name)):
                return None
            self._sizes[name] = self._ask(lambda: self._client.get_collection(name)).config.params.vectors.size
        return self._sizes[name]

    def _ask(self, call: Callable):
        """What the client answers. Raises DatabaseUnavailable."""
        from qdrant_client.http.exceptions import ApiException

        if time.monotonic() < self._silent_until:
            raise DatabaseUnavailable(f"{self.location} did not answer a moment ago and is not asked again yet")
        try:
            return call()
        except (ApiException, OSError) as error:
            self._silent_until = time.monotonic() + PAUSE
            self._sizes.clear()
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DatabaseUnavailable(
                f"the Qdrant server {self.location} gives no answer ({reason}): check that it runs and can be reached"
            ) from error

    def _connect(self, timeout: float):
        try:
            import httpx
            from qdrant_client import QdrantClient
        except ImportError as error:
            raise DatabaseError("asking a Qdrant server needs qdrant-client: pip install 'vla_sd_ros[fleet]'") from error
        if self.location == ":memory:":
            return QdrantClient(":memory:")
        if not self._remote:
            return QdrantClient(path=self.location)

        class Prompt(httpx.HTTPTransport):
            """qdrant-client rounds its timeout up to whole seconds, longer than a control period."""

            def handle_request(self, request):
                request.extensions["timeout"] = httpx.Timeout(timeout).as_dict()
                return super().handle_request(request)

        return QdrantClient(url=self.location, api_key=self._api_key, check_compatibility=False, transport=Prompt())
