# SPDX-License-Identifier: Apache-2.0
"""Where episodes come from: demonstrations of `vla-sd collect`, bags, LeRobot datasets. All end as plain Episodes."""
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from vla_sd_ros.retrieval.database import DatabaseError


@dataclass(frozen=True)
class Episode:
    """One demonstration of one instruction, in the policy's own semantics and at its own rate.

    images: one (H, W, 3) uint8 RGB for each action, what was seen when it was decided; None where it was not recorded.
    May be decoded on the way: walk it once. actions: (T, 7), deltas [m, rad] in base axes, gripper 0 (closed) to 1 (open).
    """

    images: Iterable[np.ndarray | None]
    actions: np.ndarray
    instruction: str
    name: str


class Source(Protocol):
    """steps: how many there will be, about: for a progress bar."""

    steps: int

    def __iter__(self) -> Iterator[Episode]: ...


@dataclass(frozen=True)
class Options:
    """How to read what a source does not say itself.

    include_failed: also episodes that did not succeed, or of which nobody knows. instruction: of all episodes, "" for what
    the source says. image_topic: of bags; camera, action: keys of LeRobot datasets; "" for the only one.
    stride: frames of a LeRobot dataset in one step of the policy; the deltas between are composed.
    action_scale: metres and radians in one unit of a LeRobot dataset's actions. gripper: its values of closed and open.
    """

    include_failed: bool = False
    instruction: str = ""
    image_topic: str = ""
    camera: str = ""
    action: str = "action"
    stride: int = 1
    action_scale: tuple[float, float] = (1.0, 1.0)
    gripper: tuple[float, float] = (0.0, 1.0)


def open_sources(path: Path, options: Options = Options()) -> list[Source]:
    """All episodes at or below a path. Raises DatabaseError where there are none, or the library that reads them is missing.

    LeRobot datasets are known by meta/info.json, bags by metadata.yaml, demonstrations by episode*.npz.
    """
    from vla_sd_ros.retrieval.sources.bags import Bag
    from vla_sd_ros.retrieval.sources.demonstrations import Demonstrations
    from vla_sd_ros.retrieval.sources.lerobot import LeRobotDataset

    if not path.exists():
        raise DatabaseError(f"the source {path} does not exist")
    datasets = [LeRobotDataset(info.parents[1], options) for info in sorted(path.rglob("meta/info.json"))]
    bags = [Bag(metadata.parent, options) for metadata in sorted(path.rglob("metadata.yaml"))]
    files = sorted(path.rglob("episode*.npz"))
    demonstrations = [Demonstrations(files, path, options)] if files else []
    if not (datasets or bags or demonstrations):
        raise DatabaseError(f"there are no episodes in {path}: give a folder with episode*.npz of `vla-sd collect`, a bag "
                            "(the folder of metadata.yaml) or a LeRobot dataset (the folder of meta/info.json)")
    return [*datasets, *bags, *demonstrations]
