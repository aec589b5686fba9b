# SPDX-License-Identifier: Apache-2.0
"""All recordings below some folders, whatever their kind. What cannot be used is named, skipped and counted."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np

from vla_sd_ros.instruction import normalized
from vla_sd_ros.recordings import units
from vla_sd_ros.recordings.bags import Bag
from vla_sd_ros.recordings.demonstrations import Demonstration, demonstrations
from vla_sd_ros.recordings.episode import UNKNOWN, Damaged, Episode, Options, Pictures, RecordingError, Skipped, Source
from vla_sd_ros.recordings.lerobot import LeRobotDataset, lerobot_datasets
from vla_sd_ros.recordings.rlds import RldsDataset, rlds_datasets
from vla_sd_ros.recordings.rosbag import bag_places

KINDS: dict[str, tuple[Callable[[Path], Iterable[Path]], Callable[[Path, Options], Source], str]] = {
    # name: where such recordings are below a path, what reads one, how a person recognises it
    "demonstrations": (demonstrations, Demonstration, "episode*.npz of `vla-sd collect`"),
    "bags": (bag_places, Bag, "*.mcap or *.db3"),
    "LeRobot datasets": (lerobot_datasets, LeRobotDataset, "meta/info.json"),
    "RLDS datasets": (rlds_datasets, RldsDataset, "features.json"),
}
SHOWN = 3  # names of what was skipped for one reason


class Recordings:
    """All episodes at or below some paths, in the policy's units; iterated as often as wanted.

    skipped: name to reason, of what could not be used so far. Raises RecordingError where there is nothing, where a library is
    missing, and where the options leave open what to read: which camera, which actions.
    """

    def __init__(self, paths: Iterable[Path], options: Options = Options()):
        self._include_failed = options.include_failed
        self.skipped: dict[str, str] = {}
        self.groups: dict[str, list[Source]] = {}  # what has its units in common, by kind and path
        for path in paths:
            self._open(path, options)

    def _open(self, path: Path, options: Options) -> None:
        if not path.exists():
            raise RecordingError(f"the source {path} does not exist")
        found = [(name, kind, place) for name, (places, kind, _) in KINDS.items() for place in sorted(places(path))]
        if not found:
            known = ", ".join(f"{name} ({mark})" for name, (*_, mark) in KINDS.items())
            raise RecordingError(f"there are no episodes in {path}: give a folder with {known}")
        for name, kind, place in found:
            try:
                self.groups.setdefault(f"the {name} in {path}", []).append(kind(place, options))
            except Damaged as error:
                self.skip(str(place), str(error))

    def __iter__(self) -> Iterator[Episode]:
        for sources in self.groups.values():
            yield from self.usable(chain.from_iterable(sources))

    def usable(self, found: Iterable[Episode | Skipped]) -> Iterator[Episode]:
        """Those of these episodes that can be learnt from."""
        return usable(found, self.skip, self._include_failed)

    def skip(self, name: str, reason: str) -> None:
        """Remember that something could not be used, and why."""
        self.skipped[name] = reason

    def told(self) -> list[str]:
        """What was skipped, one sentence for each reason."""
        names = defaultdict(list)
        for name, reason in self.skipped.items():
            names[reason].append(name)
        return [
            f"{len(those)} skipped: {', '.join(those[:SHOWN])}{', ...' if len(those) > SHOWN else ''}"
            f"{': each' if len(those) > 1 else ''} {reason}"
            for reason, those in names.items()
        ]


def usable(
    found: Iterable[Episode | Skipped], skip: Callable[[str, str], object], include_failed: bool = False
) -> Iterator[Episode]:
    """The episodes that can be learnt from, actions checked, images as one walks through them, and instruction normalised; `skip`
    hears of the others."""
    for episode in found:
        if isinstance(episode, Skipped):
            skip(episode.name, episode.reason)
        elif episode.success is False and not include_failed:
            skip(episode.name, UNKNOWN)
        elif not normalized(episode.instruction):
            skip(episode.name, "has no instruction, which says what it demonstrates: give --instruction")
        elif reason := units.objection(np.asarray(episode.actions)):
            skip(episode.name, reason)
        else:
            actions = np.array(episode.actions, np.float32)
            actions[:, 6] = actions[:, 6].clip(0.0, 1.0)
            images = Pictures(episode.images, len(actions))
            yield replace(episode, images=images, actions=actions, instruction=normalized(episode.instruction))
