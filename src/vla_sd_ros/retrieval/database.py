# SPDX-License-Identifier: Apache-2.0
"""The embedded trajectory database: arrays in plain files, one partition for each instruction.

meta.json       format, feature size, checkpoint, fingerprint of its vision tower, sources, partitions, episode names
entries.npz     features (N, d) float32, actions (N, 7), upcoming (N, 3, 7), episodes (N,), steps (N,), partition
                after partition
NNN.hnsw        the graph of partition NNN, where it is too large for an exact product
"""

import hashlib
import json
import zipfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from vla_sd_ros.inputs import BadInput
from vla_sd_ros.instruction import normalized
from vla_sd_ros.retrieval.index import EXACT_LIMIT, Graph, exact

FORMAT = 1
UPCOMING = 3  # actions after each entry's own
META, ENTRIES = "meta.json", "entries.npz"
ADVICE = "make one with `vla-sd build-db`"


class DatabaseError(BadInput):
    """A trajectory database that cannot be made, opened or queried; one sentence says why and what to do."""


class DatabaseUnavailable(DatabaseError):
    """A database server that does not answer now; the caller goes on without retrieval."""


@dataclass(frozen=True)
class Entries:
    """Steps of demonstrations, one row each; of k neighbours or of a whole partition.

    features: (N, d) float32, unit length. actions: (N, 7) float32 [m, rad, gripper 0..1]. upcoming: (N, 3, 7), the three
    actions after that; past the end of the episode no motion, the gripper as it was. episodes, steps: (N,) int32.
    """

    features: np.ndarray
    actions: np.ndarray
    upcoming: np.ndarray
    episodes: np.ndarray
    steps: np.ndarray

    def __len__(self) -> int:
        return len(self.actions)


@dataclass(frozen=True)
class Neighbours:
    """The k most similar entries, cosine similarity (k,) descending; the rest as in Entries. Empty: nothing is known."""

    actions: np.ndarray
    upcoming: np.ndarray
    similarity: np.ndarray
    episodes: np.ndarray
    steps: np.ndarray

    def __len__(self) -> int:
        return len(self.actions)

    @staticmethod
    def none() -> "Neighbours":
        """Of a sentence that no demonstration has."""
        no_ids = np.zeros(0, np.int32)
        return Neighbours(
            np.zeros((0, 7), np.float32), np.zeros((0, UPCOMING, 7), np.float32), np.zeros(0, np.float32), no_ids, no_ids
        )


@dataclass(frozen=True)
class Origin:
    """checkpoint: name of the policy that made the features. fingerprint: policy.fingerprint of it. sources: of episodes."""

    checkpoint: str
    fingerprint: str
    sources: tuple[str, ...] = ()


def unit(features: np.ndarray, size: int) -> np.ndarray:
    """Features (size,) as a float32 vector of unit length. Raises DatabaseError where that is not possible."""
    features = np.asarray(features, np.float32)
    if features.shape != (size,):
        raise DatabaseError(f"a feature vector of shape {features.shape} cannot be looked up among vectors of {size}")
    norm = float(np.linalg.norm(features))
    if not 0.0 < norm < float("inf"):
        raise DatabaseError("a feature vector that is zero or not finite cannot be looked up: look at the camera image")
    return features / norm


class TrajectoryDatabase:
    """Entries by instruction, in memory.

    partitions: by normalised instruction. episode_names: of all episodes, Entries.episodes are indices into it. Raises
    DatabaseError when there are no entries.
    """

    def __init__(
        self, partitions: dict[str, Entries], origin: Origin, episode_names: list[str], graphs: dict[str, Graph] | None = None
    ):
        if not any(len(entries) for entries in partitions.values()):
            raise DatabaseError(f"the trajectory database is empty: {ADVICE} from at least one successful episode")
        self.partitions, self.origin, self.episode_names = partitions, origin, episode_names
        self.feature_size = next(iter(partitions.values())).features.shape[1]
        self._graphs = (
            graphs
            if graphs is not None
            else {key: Graph.build(entries.features) for key, entries in partitions.items() if entries.features.size > EXACT_LIMIT}
        )

    def __len__(self) -> int:
        return sum(map(len, self.partitions.values()))

    def query(self, features: np.ndarray, instruction: str, k: int = 5, exclude_episode: int | None = None) -> Neighbours:
        """The k entries of this instruction whose features are most similar to features (d,) of any length.

        Fewer than k where the partition has fewer, none for an unknown instruction. exclude_episode: leave out the
        entries of one episode, by an exact product (slow where the partition is large). Raises DatabaseError for
        features of another size, zero or not finite.
        """
        query = unit(features, self.feature_size)
        key = normalized(instruction)
        entries = self.partitions.get(key)
        if entries is None:
            return Neighbours.none()
        if exclude_episode is not None:
            rows = exact(entries.features, query, k, entries.episodes != exclude_episode)
        elif key in self._graphs:
            rows = self._graphs[key].search(query, k)
        else:
            rows = exact(entries.features, query, k)
        similarity = entries.features[rows] @ query
        order = np.argsort(-similarity, kind="stable")
        rows = rows[order]
        return Neighbours(
            entries.actions[rows], entries.upcoming[rows], similarity[order], entries.episodes[rows], entries.steps[rows]
        )

    def save(self, directory: Path) -> None:
        """Write into directory, which is made. Raises DatabaseError where it already holds a database."""
        directory = Path(directory)
        if (directory / META).exists():
            raise DatabaseError(f"{directory} already holds a trajectory database: remove it or choose another directory")
        directory.mkdir(parents=True, exist_ok=True)
        stacked = {
            field.name: np.concatenate([getattr(entries, field.name) for entries in self.partitions.values()])
            for field in fields(Entries)
        }
        np.savez(directory / ENTRIES, **stacked)  # type: ignore[arg-type]  # numpy takes any array for its own options
        meta = {
            "format": FORMAT,
            "feature_size": self.feature_size,
            **asdict(self.origin),
            "entries": len(self),
            "partitions": [self._write_partition(directory, i, key) for i, key in enumerate(self.partitions)],
            "episodes": self.episode_names,
        }
        (directory / META).write_text(json.dumps(meta, indent=1) + "\n")  # last: without it there is no database

    def _write_partition(self, directory: Path, number: int, key: str) -> dict:
        described = {"instruction": key, "entries": len(self.partitions[key])}
        if key in self._graphs:
            name = f"{number:03d}.hnsw"
            self._graphs[key].save(directory / name)
            described |= {"graph": name, "sha256": _sha256(directory / name)}
        return described

    @classmethod
    def load(cls, directory: Path, feature_size: int | None = None, fingerprint: str | None = None) -> "TrajectoryDatabase":
        """Read a directory that save wrote. Raises DatabaseError where it is missing, damaged, empty, or not usable.

        feature_size, fingerprint: those of the policy that will ask (policy.fingerprint); None: not checked.
        """
        directory = Path(directory)
        if not (directory / META).is_file():
            raise DatabaseError(f"there is no trajectory database in {directory}: {ADVICE}")
        try:
            meta = json.loads((directory / META).read_text())
            if meta["format"] != FORMAT:
                raise DatabaseError(
                    f"the trajectory database {directory} has format {meta['format']}, this version reads format {FORMAT}: "
                    f"{ADVICE} again"
                )
            origin = Origin(meta["checkpoint"], meta["fingerprint"], tuple(meta["sources"]))
            check(str(directory), origin, meta["feature_size"], feature_size, fingerprint)
            partitions = _read_partitions(directory, meta)
            graphs = {
                part["instruction"]: _read_graph(directory, part, meta["feature_size"])
                for part in meta["partitions"]
                if "graph" in part
            }
            return cls(partitions, origin, meta["episodes"], graphs)
        except DatabaseError:
            raise
        except (OSError, EOFError, KeyError, TypeError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
            raise DatabaseError(f"the trajectory database {directory} is damaged ({error}): {ADVICE} again") from error


def check(name: str, origin: Origin, size: int, feature_size: int | None, fingerprint: str | None) -> None:
    """Raise DatabaseError where a database does not fit the policy that will ask it; None is not checked."""
    if feature_size is not None and size != feature_size:
        raise DatabaseError(
            f"the trajectory database {name} has features of size {size}, but the policy gives {feature_size}: {ADVICE} for this "
            "checkpoint"
        )
    if fingerprint is not None and origin.fingerprint != fingerprint:
        raise DatabaseError(
            f"the trajectory database {name} was made with another checkpoint ({origin.checkpoint}, vision tower "
            f"{origin.fingerprint}, not {fingerprint}): {ADVICE} for this one"
        )


def _read_partitions(directory: Path, meta: dict) -> dict[str, Entries]:
    with np.load(directory / ENTRIES) as file:
        stacked = {field.name: file[field.name] for field in fields(Entries)}
    count = meta["entries"]
    shapes = {
        "features": (count, meta["feature_size"]),
        "actions": (count, 7),
        "upcoming": (count, UPCOMING, 7),
        "episodes": (count,),
        "steps": (count,),
    }
    for name, shape in shapes.items():
        if stacked[name].shape != shape:
            raise ValueError(f"{name} has shape {stacked[name].shape}, {META} says {shape}")
    if sum(part["entries"] for part in meta["partitions"]) != count:
        raise ValueError(f"{META} counts {count} entries, but its partitions do not")
    partitions, start = {}, 0
    for part in meta["partitions"]:
        stop = start + part["entries"]
        partitions[part["instruction"]] = Entries(**{name: array[start:stop] for name, array in stacked.items()})
        start = stop
    return partitions


def _read_graph(directory: Path, part: dict, feature_size: int) -> Graph:
    path = directory / part["graph"]
    if _sha256(path) != part["sha256"]:
        raise ValueError(f"{path.name} has changed since it was written")
    return Graph.load(path, (part["entries"], feature_size))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
