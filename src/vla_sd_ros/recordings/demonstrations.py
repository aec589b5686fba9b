# SPDX-License-Identifier: Apache-2.0
"""Demonstrations as `vla-sd collect` leaves them: one .npz file an episode (sim/demonstrations.py says what is in it)."""

import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from vla_sd_ros.recordings.episode import Damaged, Episode, Lazily, Options, Skipped

PERIOD = 0.2  # [s]: the simulator's episodes are at 5 Hz


def demonstrations(path: Path) -> Iterable[Path]:
    """The files of episodes at or below a path."""
    return [path] if path.is_file() and path.suffix == ".npz" else path.rglob("episode*.npz")


class Demonstration:
    """The episode of one file. Its actions are the expert's labels, not the noisy motion.

    Of failed attempts of the expert the file holds success = False alone: no episode.
    """

    def __init__(self, file: Path, options: Options):
        self._file, self._options = file, options

    def __iter__(self) -> Iterator[Episode | Skipped]:
        try:
            with _opened(self._file) as arrays:
                if set(arrays) == {"success"}:
                    return
                actions, success = arrays["actions"], bool(arrays["success"])
                if actions.ndim != 2 or arrays["instruction"].ndim:
                    raise ValueError("its actions are no table, or its instruction is no single one")
                instruction = self._options.instruction or str(arrays["instruction"])
        except Damaged as error:
            yield Skipped(str(self._file), str(error))
            return
        stamps = PERIOD * np.arange(len(actions))
        yield Episode(Lazily(_images, self._file), actions, instruction, str(self._file), stamps, PERIOD, success)


def _images(file: Path) -> np.ndarray:
    with _opened(file) as arrays:
        return arrays["images"]


@contextmanager
def _opened(file: Path):
    try:
        with np.load(file) as arrays:
            yield arrays
    except (OSError, KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise Damaged(f"is not an episode of `vla-sd collect`, or damaged ({error}): remove it") from error
