# SPDX-License-Identifier: Apache-2.0
"""Held-out episodes as `vla-sd bench libero --record` writes observations, for calibrate and bench decode."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from vla_sd_ros.kinematics.pose import Pose, delta_displacement
from vla_sd_ros.policy.actions import ActionStatistics, encode
from vla_sd_ros.recordings import Episode, RecordingError
from vla_sd_ros.training.calibrate import LEAST_PATH
from vla_sd_ros.training.loop import write_whole
from vla_sd_ros.whole_files import read_arrays


def write(
    episodes: Iterable[tuple[str, Episode]],
    folder: Path,
    statistics: ActionStatistics,
    most: int,
    skip: Callable[[str, str], object],
) -> int:
    """One file an episode, until there are `most` steps: images, bins of the recorded actions, instruction, path. How many steps
    there are.

    The path is that of the commanded target from where it began, as the deltas compose; a recording tells no other in base axes.
    skip: told of an episode that cannot be used, and why.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for key, episode in sorted(episodes, key=lambda pair: pair[0]):
        if count >= most:
            break
        path = folder / f"{key}.npz"
        try:
            count += _written(path) if path.exists() else _write(path, episode, statistics, most - count)
        except RecordingError as error:
            skip(episode.name, str(error))
    return count


def _written(path: Path) -> int:
    return len(read_arrays(path, ("bins",))["bins"])


def _write(path: Path, episode: Episode, statistics: ActionStatistics, room: int) -> int:
    images: list[np.ndarray] = []
    for image in episode.images:
        if image is None or len(images) == room:
            break
        images.append(image)
    if len(images) < LEAST_PATH and len(images) < room:
        raise RecordingError(f"has {len(images)} images from its begin on, too few to measure on")
    positions, rotations = followed(episode.actions[: len(images)])
    arrays: dict[str, Any] = {
        "images": np.stack(images),
        "bins": encode(statistics.normalise(episode.actions[: len(images)])),
        "positions": positions,
        "rotations": rotations,
    }
    write_whole(path, lambda part: np.savez_compressed(part, instruction=episode.instruction, **arrays))
    return len(images)


def followed(actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (T, 3) [m] and rotations (T, 3, 3) of the target before each of the actions (T, 7), from the origin on."""
    poses = [Pose(np.zeros(3), np.eye(3))]
    for action in actions[:-1]:
        poses.append(poses[-1].moved(delta_displacement(action[:3], action[3:6])))
    return np.stack([pose.position for pose in poses]), np.stack([pose.rotation for pose in poses])


def recorded(folder: Path) -> np.ndarray:
    """Bins (n, 7) of the recorded actions, in the order in which observations are replayed."""
    bins = []
    for path in sorted(folder.rglob("*.npz")):
        bins.append(read_arrays(path, ("bins",))["bins"])
    return np.concatenate(bins)
