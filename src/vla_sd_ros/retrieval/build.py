# SPDX-License-Identifier: Apache-2.0
"""From episodes to a trajectory database: features of each image, the actions beside them."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from vla_sd_ros.recordings import Episode, RecordingError
from vla_sd_ros.retrieval.database import UPCOMING, DatabaseError, Entries, Origin, TrajectoryDatabase, unit


def build(
    episodes: Iterable[Episode],
    embed: Callable[[np.ndarray, str], np.ndarray],
    origin: Origin,
    skip: Callable[[str, str], object],
    stepped: Callable[[], object] = lambda: None,
) -> TrajectoryDatabase:
    """The database of these episodes, as Recordings give them.

    embed: from image (H, W, 3) uint8 and instruction to features (d,). skip: told of an episode whose images cannot be read, and
    why. stepped: called after each step. Raises DatabaseError when there is no episode.
    """
    collected = Collected()
    for episode in episodes:
        try:
            seen = list(_seen(episode, embed, stepped))
        except RecordingError as error:
            skip(episode.name, str(error))
            continue
        collected.add(episode.name, episode.instruction, episode.actions, seen)
    return collected.database(origin)


class Collected:
    """The entries of one episode after the other."""

    def __init__(self) -> None:
        self._rows: dict[str, list[tuple]] = {}
        self._names: list[str] = []

    def add(self, name: str, instruction: str, actions: np.ndarray, seen: Iterable[tuple[int, np.ndarray]]) -> None:
        """An episode with its actions (T, 7), and the features (d,) of the steps that have an image."""
        upcoming, number = following(actions), len(self._names)
        self._rows.setdefault(instruction, []).extend(
            (unit(features, features.size), actions[step], upcoming[step], number, step) for step, features in seen
        )
        self._names.append(name)

    def database(self, origin: Origin) -> TrajectoryDatabase:
        """Of all that was added. Raises DatabaseError when that is nothing."""
        partitions = {key: _entries(partition) for key, partition in self._rows.items() if partition}
        return TrajectoryDatabase(partitions, origin, self._names)


def _seen(episode: Episode, embed: Callable, stepped: Callable) -> Iterator[tuple[int, np.ndarray]]:
    """The features of each step with an image."""
    for step, image in enumerate(episode.images):
        if image is not None:
            yield step, np.asarray(embed(image, episode.instruction), np.float32)
        stepped()


def following(actions: np.ndarray) -> np.ndarray:
    """For each of the actions (T, 7) the next three (T, 3, 7); past the end no motion, the gripper as it was."""
    still = np.zeros((UPCOMING, 7), actions.dtype)
    still[:, 6] = actions[-1, 6]
    padded = np.concatenate([actions, still])
    return np.stack([padded[i : i + len(actions)] for i in range(1, UPCOMING + 1)], axis=1)


def _entries(rows: list[tuple]) -> Entries:
    features, actions, upcoming, episodes, steps = zip(*rows)
    if len({vector.size for vector in features}) > 1:
        raise DatabaseError("the policy gave features of different sizes")
    return Entries(
        np.stack(features), np.stack(actions), np.stack(upcoming), np.array(episodes, np.int32), np.array(steps, np.int32)
    )
