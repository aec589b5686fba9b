# SPDX-License-Identifier: Apache-2.0
"""Parquet files, of which a few columns and rows are wanted at a time."""

from pathlib import Path

import numpy as np

from vla_sd_ros.recordings.episode import Damaged, RecordingError

Parts = list[tuple[Path, np.ndarray]]  # rows (n,) of files, one after the other


_kept: dict[tuple[str, ...], tuple[tuple, object]] = {}  # of each set of columns the newest: episodes lie side by side in a file


def columns_of(path: Path) -> list[str]:
    """Names of a file's columns. Damaged where it cannot be read, RecordingError where pyarrow is missing."""
    return _tried("read_schema", path).names


def read(path: Path, columns: tuple[str, ...], optional: tuple[str, ...] = ()):
    """A file's pyarrow.Table of these columns. Damaged where one that is not optional is missing."""
    there = columns_of(path)
    if missing := [name for name in columns if name not in there]:
        raise Damaged(f"lacks the column {', '.join(missing)}: download it again")
    wanted = (*columns, *(name for name in optional if name in there))
    state = path, path.stat().st_mtime_ns, path.stat().st_size
    if _kept.get(wanted, (None,))[0] != state:
        _kept[wanted] = state, _tried("read_table", path, columns=list(wanted))
    return _kept[wanted][1]


def take(parts: Parts, columns: tuple[str, ...], optional: tuple[str, ...] = ()):
    """A pyarrow.Table of these rows, part after part."""
    import pyarrow

    tables = [read(path, columns, optional).take(rows) for path, rows in parts]
    return pyarrow.concat_tables(tables, promote_options="default")


def library():
    """pyarrow.parquet. RecordingError where it is missing."""
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise RecordingError("reading a LeRobot dataset needs pyarrow: pip install 'vla_sd_ros[data]'") from error
    return parquet


def _tried(function: str, path: Path, **options):
    try:
        return getattr(library(), function)(path, **options)
    except (OSError, ValueError) as error:
        raise Damaged(f"cannot be read ({type(error).__name__}: {error}): download it again") from error


def whole(index: object) -> int | None:
    """An index as it should be; None for what is none. pandas makes floats of a column with an empty cell."""
    return int(index) if isinstance(index, (int, float)) and np.isfinite(index) and index == int(index) else None


def by_index(indices: list) -> dict[int | None, np.ndarray]:
    """The rows (n,) of each index in a column; None for those that have no whole number."""
    numbers = np.array(indices, np.float64)
    rows: dict[int | None, np.ndarray] = {}
    order = np.argsort(numbers, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(numbers[order]) != 0.0) + 1):
        if len(group):
            index = whole(float(numbers[group[0]]))
            rows[index] = np.concatenate([rows[index], group]) if index in rows else group
    return rows
