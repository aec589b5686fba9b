# SPDX-License-Identifier: Apache-2.0
"""A file is whole or not there, whatever interrupts its writing."""

import json
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vla_sd_ros.inputs import BadInput


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Gives the path to write to, which takes the name of `path` at the end; what failed leaves the file that was there."""
    part = path.with_name(f"part.{path.name}")  # ends as the file does, for what chooses a format by it
    try:
        yield part
        _to_disk(part)  # before it has the name: of a power cut the name could otherwise be all that is left
        part.replace(path)
        _to_disk(path.parent)
    finally:
        part.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def read_json(path: Path) -> Any:
    """What JSON was written so. Raises BadInput for a damaged file."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error


def read_arrays(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """These arrays of an .npz file that was written so. Raises BadInput for a damaged one."""
    try:
        with np.load(path) as file:
            return {name: file[name] for name in names}
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> BadInput:
    """What to say of a file of half-done work that cannot be read."""
    why = " ".join(str(error).split()) or type(error).__name__
    return BadInput(f"{path} cannot be read ({why}): remove it, and give the same command again")
