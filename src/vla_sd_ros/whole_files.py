# SPDX-License-Identifier: Apache-2.0
"""A file is whole or not there, whatever interrupts its writing."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Gives the path to write to, which takes the name of `path` at the end; what failed leaves the file that was there."""
    part = path.with_name(f"part.{path.name}")  # ends as the file does, for what chooses a format by it
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
