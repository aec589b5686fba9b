# SPDX-License-Identifier: Apache-2.0
"""What a policy says to recorded images, asked on the nodes of a cluster: the same files as answers.ask() leaves, to the byte.

A unit is the images of one shard. Who asks reads the recordings and writes the shards: nodes need neither, only the policy.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vla_sd_ros import workers
from vla_sd_ros.checkpoint_places import absolute
from vla_sd_ros.policy import checkpoint
from vla_sd_ros.policy.batch import BatchedVla
from vla_sd_ros.policy.vla import Vla
from vla_sd_ros.recordings import Episode, RecordingError
from vla_sd_ros.training import answers


@dataclass(frozen=True)
class Asked:
    """The policy that a node loads, and how it decides: so many rows in a pass, on so many threads of the CPU."""

    checkpoint: str
    device: str
    unnorm_key: str
    dtype: str
    quantization: str
    rows: int
    threads: int

    @classmethod
    def of(cls, arguments: argparse.Namespace, vla: Vla) -> "Asked":
        """As the command line wants it; vla: the same policy, loaded here."""
        a = arguments
        source = absolute(str(a.checkpoint))
        return cls(source, a.device, vla.unnorm_key, a.dtype, a.quantization, a.images, torch.get_num_threads())


@dataclass(frozen=True)
class Shard:
    """A unit: images, with the numbers of their steps, of the episode with this name among the answers."""

    asked: Asked
    key: str
    number: int
    pictures: list[tuple[int, np.ndarray]]
    instruction: str


def ask(
    cluster: str,
    asked: Asked,
    vla: Vla,
    episodes: Iterable[Episode],
    folder: Path,
    skip: Callable[[str, str], object],
    *,
    every: int = 1,
    stepped: Callable[[int], object] = lambda count: None,
) -> None:
    """As answers.ask(), on the nodes of a cluster; shards that are there are not asked for again."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / answers.ENDS).exists():
        answers.Ends.of(vla).save(folder)
    book = Book(folder, skip, stepped)
    paths = [asked.checkpoint] if asked.checkpoint.startswith("/") else []
    gpus = int(asked.device.startswith("cuda"))
    units = book.shards(asked, vla, episodes, every)
    for key, number, tensors in workers.each(_decode, units, cluster=cluster, paths=paths, gpus=gpus):
        book.land(key, number, tensors)


class Book:
    """Which shards of which episodes have been read and have landed; an episode is whole when all of them have."""

    def __init__(self, folder: Path, skip: Callable[[str, str], object], stepped: Callable[[int], object]):
        self._folder, self._skip, self._stepped = folder, skip, stepped
        self._landed: dict[str, dict[int, int]] = {}  # images of each shard, of the episodes that are not whole
        self._read: dict[str, tuple[Episode, int]] = {}  # those that are read to their end, and how many shards they have

    def shards(self, asked: Asked, vla: Vla, episodes: Iterable[Episode], every: int) -> Iterator[Shard]:
        """What is missing, read when it is wanted."""
        for key, episode in answers.named(episodes):
            if (self._folder / f"{key}.npz").exists():
                self._stepped(-(-len(episode.actions) // every))
                continue
            landed, count = self._landed.setdefault(key, {}), 0
            try:
                for number, pictures in enumerate(answers.pictures(vla, episode, every)):
                    count += 1
                    if answers.shard_path(self._folder, key, number).exists():
                        landed[number] = len(pictures)
                        self._stepped(len(pictures))
                    else:
                        yield Shard(asked, key, number, pictures, episode.instruction)
            except RecordingError as error:
                self._drop(key)
                self._skip(episode.name, str(error))
                continue
            self._read[key] = episode, count
            self._end(key)

    def land(self, key: str, number: int, tensors: dict[str, Tensor]) -> None:
        """Write a shard, unless its episode could not be read to its end."""
        if key in self._landed:
            answers.save_whole(answers.shard_path(self._folder, key, number), tensors)
            self._landed[key][number] = len(tensors["bins"])
            self._stepped(len(tensors["bins"]))
            self._end(key)

    def _end(self, key: str) -> None:
        episode, count = self._read.get(key, (None, -1))
        if episode and len(self._landed[key]) == count:
            answers.end(self._folder, key, episode, [self._landed[key][number] for number in range(count)])
            del self._landed[key], self._read[key]

    def _drop(self, key: str) -> None:
        del self._landed[key]
        for path in self._folder.glob(f"{key}-*.safetensors"):
            path.unlink()


def _decode(shard: Shard) -> tuple[str, int, dict[str, Tensor]]:
    vla, batched = _loaded(shard.asked)
    return shard.key, shard.number, answers.decode_shard(vla, batched, shard.pictures, shard.instruction)


@cache
def _loaded(asked: Asked) -> tuple[Vla, BatchedVla]:
    """The policy in this process of a node, for all its units."""
    torch.set_num_threads(asked.threads)
    a = asked
    vla = checkpoint.load(a.checkpoint, a.device, a.unnorm_key, dtype=a.dtype, quantization=a.quantization, largest_step=None)
    return vla, BatchedVla(vla, asked.rows)
