# SPDX-License-Identifier: Apache-2.0
"""From episodes to a trajectory database: features of each image, the actions beside them."""
from collections.abc import Callable, Iterable

import numpy as np

from vla_sd_ros.instruction import normalized
from vla_sd_ros.retrieval.database import UPCOMING, DatabaseError, Entries, Origin, TrajectoryDatabase, unit
from vla_sd_ros.retrieval.sources import Episode

MAX_TRANSLATION = 0.5  # [m] in one step; more is not metres
GRIPPER_SLACK = 0.05  # values of the gripper so far outside 0..1 are noise, and clipped


def build(
    episodes: Iterable[Episode],
    embed: Callable[[np.ndarray, str], np.ndarray],
    origin: Origin,
    stepped: Callable[[], object] = lambda: None,
) -> TrajectoryDatabase:
    """The database of these episodes.

    embed: from image (H, W, 3) uint8 and instruction to features (d,). stepped: called after each step. Raises
    DatabaseError for an episode whose actions are not what they should be, and when there is none.
    """
    rows: dict[str, list[tuple]] = {}
    names: list[str] = []
    for episode in episodes:
        actions = checked(episode)
        upcoming = following(actions)
        partition = rows.setdefault(normalized(episode.instruction), [])
        images = 0
        for step, image in enumerate(episode.images):
            images += 1
            if image is not None and step < len(actions):
                features = np.asarray(embed(image, episode.instruction), np.float32)
                partition.append((unit(features, features.size), actions[step], upcoming[step], len(names), step))
            stepped()
        if images != len(actions):
            raise DatabaseError(f"{episode.name} has {len(actions)} actions, but {images} images")
        names.append(episode.name)
    partitions = {key: _entries(partition) for key, partition in rows.items() if partition}
    return TrajectoryDatabase(partitions, origin, names)


def following(actions: np.ndarray) -> np.ndarray:
    """For each of the actions (T, 7) the next three (T, 3, 7); past the end no motion, the gripper as it was."""
    still = np.zeros((UPCOMING, 7), actions.dtype)
    still[:, 6] = actions[-1, 6]
    padded = np.concatenate([actions, still])
    return np.stack([padded[i : i + len(actions)] for i in range(1, UPCOMING + 1)], axis=1)


def checked(episode: Episode) -> np.ndarray:
    """The actions (T, 7) float32 of an episode. Raises DatabaseError where they cannot be metres, radians and opening."""
    actions = np.array(episode.actions, np.float32)
    if actions.ndim != 2 or actions.shape[1] != 7 or not len(actions):
        raise DatabaseError(f"{episode.name} has actions of shape {actions.shape}, not (steps, 7): x, y, z, roll, pitch, "
                            "yaw, gripper")
    if not normalized(episode.instruction):
        raise DatabaseError(f"{episode.name} has no instruction, which says what it demonstrates")
    if not np.isfinite(actions).all():
        raise DatabaseError(f"{episode.name} has an action that is not finite, at step "
                            f"{int(np.argmin(np.isfinite(actions).all(axis=1)))}")
    furthest, turn = np.abs(actions[:, :3]).max(), np.abs(actions[:, 3:6]).max()
    if furthest > MAX_TRANSLATION or turn > np.pi:
        raise DatabaseError(f"{episode.name} moves by {furthest:.2f} and turns by {turn:.2f} in one step, which cannot be "
                            "metres and radians: give --action-scale")
    lowest, highest = actions[:, 6].min(), actions[:, 6].max()
    if lowest < -GRIPPER_SLACK or highest > 1.0 + GRIPPER_SLACK:
        raise DatabaseError(f"{episode.name} has gripper values of {lowest:g} to {highest:g}, not 0 (closed) to 1 (open): "
                            "give --gripper CLOSED OPEN")
    actions[:, 6] = actions[:, 6].clip(0.0, 1.0)
    return actions


def _entries(rows: list[tuple]) -> Entries:
    features, actions, upcoming, episodes, steps = zip(*rows)
    if len({vector.size for vector in features}) > 1:
        raise DatabaseError("the policy gave features of different sizes")
    return Entries(
        np.stack(features), np.stack(actions), np.stack(upcoming), np.array(episodes, np.int32), np.array(steps, np.int32)
    )
