# SPDX-License-Identifier: Apache-2.0
"""Demonstrations as `vla-sd collect` leaves them: one .npz file an episode (sim/demonstrations.py says what is in it)."""
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from vla_sd_ros.retrieval.database import DatabaseError
from vla_sd_ros.retrieval.sources import Episode, Options


class Demonstrations:
    """Episodes of these files, named relative to root. Their actions are the expert's labels, not the noisy motion."""

    def __init__(self, files: list[Path], root: Path, options: Options):
        self._root, self._options = root, options
        lengths = {path: _length(path, options.include_failed) for path in files}
        self._files = [path for path, length in lengths.items() if length]
        self.steps = sum(lengths.values())

    def __iter__(self) -> Iterator[Episode]:
        for path in self._files:
            with _opened(path) as file:
                instruction = self._options.instruction or str(file["instruction"])
                name = path.relative_to(self._root).with_suffix("")
                yield Episode(file["images"], file["actions"], instruction, str(name))


def _length(path: Path, include_failed: bool) -> int:
    """Steps of an episode; 0 for one that is not wanted. Failed attempts of the expert hold success = False alone."""
    with _opened(path) as file:
        wanted = "images" in file and (include_failed or bool(file["success"]))
        return len(file["actions"]) if wanted else 0


@contextmanager
def _opened(path: Path):
    try:
        with np.load(path) as file:
            yield file
    except DatabaseError:
        raise
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DatabaseError(f"{path} is not an episode of `vla-sd collect`, or damaged ({error}): remove it") from error
