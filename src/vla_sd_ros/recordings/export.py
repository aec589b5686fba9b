# SPDX-License-Identifier: Apache-2.0
"""Recordings of any kind as a LeRobot dataset v3.0: what lerobot's own loader opens, without the package lerobot.

    meta/info.json, meta/stats.json, meta/tasks.parquet, meta/episodes/chunk-000/file-000.parquet
    data/chunk-000/file-000.parquet     rows of some episodes, about FILE_SIZE large; pictures in them, as PNG

One episode after the other, so that memory does not grow with their number. The folder is whole when meta/info.json is there.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from vla_sd_ros.recordings import parquet as columns
from vla_sd_ros.recordings.episode import Episode, RecordingError
from vla_sd_ros.recordings.units import AXES

CAMERA = "observation.images.camera"
FILE_SIZE = 100e6  # bytes of pictures in a data file
CHUNK = 1000  # files in a folder
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
SAMPLES = 50  # pictures of an episode that its statistics are made of


@dataclass
class Statistics:
    """Of one feature so far: lowest, highest, sum and sum of squares by column, and how many rows."""

    low: np.ndarray = field(default_factory=lambda: np.array(np.inf))
    high: np.ndarray = field(default_factory=lambda: np.array(-np.inf))
    total: np.ndarray = field(default_factory=lambda: np.array(0.0))
    squares: np.ndarray = field(default_factory=lambda: np.array(0.0))
    count: int = 0

    def add(self, values: np.ndarray) -> None:
        """Rows (n, d)."""
        values = np.asarray(values, np.float64)
        self.low, self.high = np.minimum(self.low, values.min(0)), np.maximum(self.high, values.max(0))
        self.total, self.squares = self.total + values.sum(0), self.squares + np.square(values).sum(0)
        self.count += len(values)

    def told(self, shape: tuple[int, ...] = (-1,)) -> dict:
        """As lerobot writes them."""
        mean = self.total / self.count
        spread = np.sqrt(np.maximum(self.squares / self.count - np.square(mean), 0.0))
        told = {
            name: np.reshape(value, shape).tolist()
            for name, value in (("min", self.low), ("max", self.high), ("mean", mean), ("std", spread))
        }
        return {**told, "count": [self.count]}


@dataclass
class Exporter:
    """Writes episodes into a folder. fps: of all of them. judged: whether it is known of each if it succeeded. shape: of their
    images."""

    root: Path
    fps: float
    judged: bool
    shape: tuple[int, ...]
    tasks: dict[str, int] = field(default_factory=dict)
    episodes: list[dict] = field(default_factory=list)
    statistics: dict[str, Statistics] = field(default_factory=dict)
    frames: int = 0
    _file: int = -1
    _size: float = FILE_SIZE
    _writer: Any = None

    def add(self, episode: Episode) -> None:
        """RecordingError where an image is missing or cannot be read, or has another size."""
        pictures = []
        for step, image in enumerate(episode.images):
            if image is None:
                raise RecordingError(f"has no image of step {step}, and a LeRobot dataset has one for each")
            if image.shape != self.shape:
                raise RecordingError(
                    f"has images of {image.shape[1]} x {image.shape[0]}, most others {self.shape[1]} x {self.shape[0]}: export "
                    "them by themselves"
                )
            pictures.append((_png(image), image.reshape(-1, 3)[:: max(1, image.size // 30_000)] if step < SAMPLES else None))
        self._write(episode, [png for png, _ in pictures])
        self._count(episode, [sample for _, sample in pictures if sample is not None])

    def close(self) -> None:
        """Write meta/; info.json comes last."""
        parquet = columns.library()
        import pyarrow as pa

        if self._writer is not None:
            self._writer.close()
        meta = self.root / "meta"
        (meta / "episodes" / "chunk-000").mkdir(parents=True)
        parquet.write_table(pa.Table.from_pylist(self.episodes), meta / "episodes" / "chunk-000" / "file-000.parquet")
        parquet.write_table(self._tasks(pa), meta / "tasks.parquet")
        stats = {name: own.told((3, 1, 1) if name == CAMERA else (-1,)) for name, own in self.statistics.items()}
        (meta / "stats.json").write_text(json.dumps(stats, indent=4))
        info = {
            "codebase_version": "v3.0",
            "robot_type": None,
            "total_episodes": len(self.episodes),
            "total_frames": self.frames,
            "total_tasks": len(self.tasks),
            "chunks_size": CHUNK,
            "data_files_size_in_mb": int(FILE_SIZE / 1e6),
            "video_files_size_in_mb": 200,
            "fps": int(self.fps) if self.fps == int(self.fps) else self.fps,
            "splits": {"train": f"0:{len(self.episodes)}"},
            "data_path": DATA_PATH,
            "video_path": None,
            "features": self._features(),
        }
        (meta / "info.json").write_text(json.dumps(info, indent=4))

    def _features(self) -> dict:
        numbers = {
            name: {"dtype": kind, "shape": [1], "names": None}
            for name, kind in (
                ("timestamp", "float32"),
                ("frame_index", "int64"),
                ("episode_index", "int64"),
                ("index", "int64"),
                ("task_index", "int64"),
                *((("next.success", "bool"),) if self.judged else ()),
            )
        }
        return {
            "action": {"dtype": "float32", "shape": [7], "names": list(AXES)},
            CAMERA: {"dtype": "image", "shape": list(self.shape), "names": ["height", "width", "channels"]},
            **numbers,
        }

    def _tasks(self, pa: Any) -> Any:
        """As pandas writes a table whose index are the sentences."""
        table = pa.table({"task_index": pa.array(range(len(self.tasks)), pa.int64()), "task": list(self.tasks)})
        index = {
            "index_columns": ["task"],
            "column_indexes": [],
            "pandas_version": "2.0.0",
            "columns": [
                {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64", "metadata": None},
                {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object", "metadata": None},
            ],
        }
        return table.replace_schema_metadata({"pandas": json.dumps(index)})

    def _write(self, episode: Episode, pictures: list[bytes]) -> None:
        import pyarrow as pa

        count, number = len(pictures), len(self.episodes)
        task = self.tasks.setdefault(episode.instruction, len(self.tasks))
        rows = {
            "action": pa.FixedSizeListArray.from_arrays(pa.array(episode.actions.astype(np.float32).ravel()), 7),
            CAMERA: pa.array(
                [{"bytes": png, "path": None} for png in pictures], pa.struct([("bytes", pa.binary()), ("path", pa.string())])
            ),
            "timestamp": pa.array((np.arange(count) / self.fps).astype(np.float32)),
            "frame_index": pa.array(np.arange(count)),
            "episode_index": pa.array(np.full(count, number)),
            "index": pa.array(np.arange(count) + self.frames),
            "task_index": pa.array(np.full(count, task)),
        }
        if self.judged:
            rows["next.success"] = pa.array((np.arange(count) == count - 1) & bool(episode.success))
        table = pa.table(rows)
        if self._size >= FILE_SIZE:
            self._next_file(table.schema)
        self._writer.write_table(table)
        self._size += sum(map(len, pictures))
        self.episodes.append(
            {
                "episode_index": number,
                "tasks": [episode.instruction],
                "length": count,
                "data/chunk_index": self._file // CHUNK,
                "data/file_index": self._file % CHUNK,
                "dataset_from_index": self.frames,
                "dataset_to_index": self.frames + count,
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0,
            }
        )
        self.frames += count

    def _next_file(self, schema: Any) -> None:
        parquet = columns.library()
        if self._writer is not None:
            self._writer.close()
        self._file, self._size = self._file + 1, 0.0
        path = self.root / DATA_PATH.format(chunk_index=self._file // CHUNK, file_index=self._file % CHUNK)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = parquet.ParquetWriter(path, schema)

    def _count(self, episode: Episode, samples: list[np.ndarray]) -> None:
        row, count = self.episodes[-1], len(episode.actions)
        for name, values in (
            ("action", episode.actions),
            (CAMERA, np.concatenate(samples) / 255.0),
            ("timestamp", np.arange(count)[:, None] / self.fps),
            ("frame_index", np.arange(count)[:, None]),
            ("episode_index", np.full((count, 1), row["episode_index"])),
            ("index", np.arange(count)[:, None] + row["dataset_from_index"]),
            ("task_index", np.full((count, 1), self.tasks[episode.instruction])),
        ):
            own = Statistics()
            own.add(values)
            row |= {f"stats/{name}/{key}": value for key, value in own.told((3, 1, 1) if name == CAMERA else (-1,)).items()}
            self.statistics.setdefault(name, Statistics()).add(values)


def export(
    episodes: Iterable[Episode],
    root: Path,
    fps: float,
    judged: bool,
    skip: Callable[[str, str], object],
    stepped: Callable[[], object] = lambda: None,
) -> Exporter:
    """Write these episodes, which can be walked through again, as a dataset. skip: told of those that cannot be, and why.
    RecordingError where none can."""
    exporter = Exporter(root, fps, judged, usual_shape(episodes))
    for episode in episodes:
        try:
            exporter.add(episode)
        except RecordingError as error:
            skip(episode.name, str(error))
        stepped()
    if not exporter.episodes:
        raise RecordingError("none of the recordings can be exported")
    exporter.close()
    return exporter


def usual_shape(episodes: Iterable[Episode]) -> tuple[int, ...]:
    """The shape of most episodes' first image; empty where none can be read."""
    shapes: Counter[tuple[int, ...]] = Counter()
    for episode in episodes:
        try:
            shapes.update(first.shape for first in islice(episode.images, 1) if first is not None)
        except RecordingError:
            continue  # told where it is to be written
    return max(shapes, key=lambda shape: shapes[shape], default=())


def _png(image: np.ndarray) -> bytes:
    import cv2

    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()
