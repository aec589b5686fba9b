# SPDX-License-Identifier: Apache-2.0
"""From episodes to a trajectory database: features of each image, the actions beside them."""
from collections.abc import Callable, Iterable

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
    rows: dict[str, list[tuple]] = {}
    names: list[str] = []
    for episode in episodes:
        try:
            entries = _entries_of(episode, embed, len(names), stepped)
        except RecordingError as error:
            skip(episode.name, str(error))
            continue
        rows.setdefault(episode.instruction, []).extend(entries)
        names.append(episode.name)
    partitions = {key: _entries(partition) for key, partition in rows.items() if partition}
    return TrajectoryDatabase(partitions, origin, names)


def _entries_of(episode: Episode, embed: Callable, number: int, stepped: Callable) -> list[tuple]:
    """One row for each step with an image. number: of the episode."""
    upcoming, entries, images = following(episode.actions), [], 0
    for step, image in enumerate(episode.images):
        images += 1
        if image is not None and step < len(episode.actions):
            features = np.asarray(embed(image, episode.instruction), np.float32)
            entries.append((unit(features, features.size), episode.actions[step], upcoming[step], number, step))
        stepped()
    if images != len(episode.actions):
        raise RecordingError(f"has {len(episode.actions)} actions, but {images} images")
    return entries


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
