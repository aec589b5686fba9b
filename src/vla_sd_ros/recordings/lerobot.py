# SPDX-License-Identifier: Apache-2.0
"""LeRobot datasets on the local disk, in the layouts v2.0, v2.1 and v3.0; the package lerobot is not needed.

    meta/info.json      codebase_version, fps, features, data_path, video_path, total_frames
    data/**/*.parquet   one row a frame: action, timestamp, frame_index, episode_index, task_index; images, where they are no
                        videos
    v2: meta/tasks.jsonl; one parquet file and one video an episode
    v3: meta/tasks.parquet; several episodes in a file, meta/episodes/**/*.parquet says where each begins in its video

Rows may lie in any order and any file: an episode is what has its episode_index, in the order of frame_index.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla_sd_ros.messages.images import MAX_PIXELS, compressed_to_rgb
from vla_sd_ros.recordings import parquet
from vla_sd_ros.recordings.episode import Damaged, Encoded, Episode, Lazily, Options, RecordingError, Skipped
from vla_sd_ros.recordings.parquet import Parts, by_index, whole
from vla_sd_ros.recordings.units import NO_DELTAS, joint_names, physical

COLUMNS = ("timestamp", "task_index")
AGAIN = "download it again"


def lerobot_datasets(path: Path) -> Iterable[Path]:
    """The folders of datasets at or below a path."""
    return [info.parents[1] for info in path.rglob("meta/info.json")]


@dataclass(frozen=True)
class Video:
    """path: of the file. begin [s]: where the episode begins in it."""

    path: Path
    begin: float


@dataclass(frozen=True)
class Frames:
    """One episode's frames: in `parts` of files, in this `order` (T,), at these times (T,) [s] since the first one."""

    parts: Parts
    order: np.ndarray
    times: np.ndarray


class LeRobotDataset:
    """Episodes of one dataset, one camera, one instruction an episode (its first frame's task)."""

    def __init__(self, root: Path, options: Options):
        self._root, self._options = root, options
        self._skipped: list[Skipped] = []
        parquet.library()  # said first, whatever else is wrong
        try:
            self._info = json.loads((root / "meta" / "info.json").read_text())
            self._version = str(self._info["codebase_version"])
            self._features, self._fps = self._info["features"], float(self._info["fps"])
            if self._version[:2] not in ("v2", "v3"):
                raise Damaged(f"is a LeRobot dataset of version {self._version}: convert it to v3.0")
            self._camera = self._one_camera()
            self._check_action()
            self._stored = self._features[self._camera]["dtype"] == "image"
            self._episodes = self._find_episodes()
            self._check_complete()
            self._described = self._read_episodes()
            self._tasks = self._read_tasks()
        except RecordingError:
            raise
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise _damaged("is a LeRobot dataset that cannot be read", error) from error

    def __iter__(self) -> Iterator[Episode | Skipped]:
        yield from self._skipped
        for number, parts in sorted(self._episodes.items()):
            try:
                yield self._episode(number, parts)
            except Damaged as error:
                yield Skipped(self._name(number), str(error))

    def _name(self, number: int) -> str:
        return f"{self._root}#{number}"

    def _episode(self, number: int, parts: Parts) -> Episode:
        stride, action = self._options.stride, self._options.action
        table = parquet.take(parts, (*COLUMNS, action), optional=("frame_index", "next.success"))
        order, times = _in_order(table, self._fps)
        frames = Frames(parts, order[::stride], times[::stride])
        return Episode(
            Lazily(_pictures, self._root, self._camera, frames) if self._stored else self._video_pictures(number, frames),
            physical(_actions(table[action].to_pylist(), order), self._options),
            self._options.instruction or self._task(number, table["task_index"][int(order[0])].as_py()),
            self._name(number),
            frames.times,
            stride / self._fps,
            any(table["next.success"].to_pylist()) if "next.success" in table.column_names else None,
        )

    def _task(self, number: int, index: object) -> str:
        """What an episode demonstrates, by its task_index or else by meta/episodes."""
        told = (self._described.get(number) or {}).get("tasks")
        task = self._tasks.get(whole(index)) or (told[0] if told else "")
        if not task:
            raise Damaged(f"has task {index}, which the dataset's meta/tasks does not name: give --instruction")
        return str(task)

    def _one_camera(self) -> str:
        cameras = [name for name, feature in self._features.items() if feature["dtype"] in ("image", "video")]
        camera = self._options.camera or (cameras[0] if len(cameras) == 1 else "")
        if camera not in cameras:
            raise RecordingError(
                f"the LeRobot dataset {self._root} has the cameras {', '.join(cameras) or '(none)'}: name the one that the policy "
                "is used to with --camera"
            )
        return camera

    def _check_action(self) -> None:
        key = self._options.action
        if key not in self._features:
            raise RecordingError(
                f"the LeRobot dataset {self._root} has no {key!r}: name its actions with --action; it has "
                f"{', '.join(sorted(self._features))}"
            )
        names, shape = self._features[key].get("names"), tuple(self._features[key]["shape"])
        if shape != (7,) or joint_names(names):
            raise RecordingError(
                f"the LeRobot dataset {self._root} has actions {key!r} of shape {shape} ({names}): "
                f"{NO_DELTAS}, joint positions cannot be used: name another key with --action"
            )

    def _find_episodes(self) -> dict[int, Parts]:
        """Where the frames of each episode are."""
        found: dict[int | None, Parts] = {}
        for path in sorted((self._root / "data").rglob("*.parquet")):
            try:
                indices = parquet.read(path, ("episode_index",))["episode_index"].to_pylist()
            except Damaged as error:
                self._skipped.append(Skipped(str(path), str(error)))
                continue
            for index, rows in by_index(indices).items():
                found.setdefault(index, []).append((path, rows))
        if unnumbered := sum(len(rows) for _, rows in found.pop(None, [])):
            self._skipped.append(Skipped(str(self._root), f"has {unnumbered} frames whose episode_index is no whole number"))
        return {index: parts for index, parts in found.items() if index is not None}

    def _check_complete(self) -> None:
        present, total = sum(len(rows) for parts in self._episodes.values() for _, rows in parts), self._info["total_frames"]
        if present != total:
            self._skipped.append(Skipped(str(self._root), f"has {present} of {total} frames: download it completely"))

    def _read_tasks(self) -> dict[int | None, str]:
        """Sentences by task_index; none where the option gives the sentence, or where the file names none."""
        if self._options.instruction:
            return {}
        if self._version.startswith("v2"):
            lines = (self._root / "meta" / "tasks.jsonl").read_text().splitlines()
            return {whole(task["task_index"]): task["task"] for task in map(json.loads, filter(str.strip, lines))}
        path = self._root / "meta" / "tasks.parquet"
        sentences = [name for name in parquet.columns_of(path) if name != "task_index"] if path.exists() else []
        if not sentences:
            return {}
        table = parquet.read(path, ("task_index", sentences[0]))  # written as a data frame's index, under any name
        return {whole(index): task for index, task in zip(table["task_index"].to_pylist(), table[sentences[0]].to_pylist())}

    def _read_episodes(self) -> dict[int | None, dict]:
        """What meta/episodes of v3 says of each episode."""
        described = {}
        for path in sorted((self._root / "meta" / "episodes").rglob("*.parquet")):
            for row in parquet.read(path, ("episode_index",), ("tasks", *self._video_columns())).to_pylist():
                described[whole(row["episode_index"])] = row
        return described

    def _video_columns(self) -> list[str]:
        return [f"videos/{self._camera}/{name}" for name in ("chunk_index", "file_index", "from_timestamp")]

    def _video(self, number: int) -> Video:
        """Where an episode's video is."""
        template, camera = self._info["video_path"], self._camera
        if self._version.startswith("v2"):
            chunk = number // int(self._info["chunks_size"])
            video = Video(self._root / template.format(episode_chunk=chunk, video_key=camera, episode_index=number), 0.0)
        else:
            described = self._described.get(number) or {}
            *place, begin = (described.get(name) for name in self._video_columns())
            at, file = map(whole, place)
            if at is None or file is None or begin is None or not np.isfinite(begin):
                raise Damaged(f"has no video in the dataset's meta/episodes: {AGAIN}")
            video = Video(self._root / template.format(video_key=camera, chunk_index=at, file_index=file), float(begin))
        if not video.path.is_file():
            raise Damaged(f"has no video {video.path.relative_to(self._root)}: {AGAIN}")
        return video

    def _video_pictures(self, number: int, frames: Frames) -> Lazily:
        try:
            video = self._video(number)
        except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError) as error:
            raise _damaged("has a video that cannot be found", error) from error
        return Lazily(video_frames, video.path, video.begin + frames.times, 0.5 / self._fps)


def _pictures(root: Path, camera: str, frames: Frames) -> Iterator[np.ndarray | None]:
    """Pictures that are stored in the rows."""
    for stored in parquet.take(frames.parts, (camera,)).take(frames.order)[camera].to_pylist():
        yield _picture(root, stored)


def _picture(root: Path, stored: Any) -> np.ndarray | None:
    """An image feature's cell: the encoded file, alone or beside its path below the dataset; None where it is empty."""
    try:
        if isinstance(stored, dict):
            stored = stored.get("bytes") or stored.get("path")
        if stored is None:
            return None
        return compressed_to_rgb(Encoded((root / stored).read_bytes() if isinstance(stored, str) else stored))
    except (OSError, TypeError, ValueError) as error:
        raise Damaged(f"has a picture that cannot be read ({error}): {AGAIN}") from error


def _damaged(what: str, error: Exception) -> Damaged:
    return Damaged(f"{what} ({type(error).__name__}: {error}): {AGAIN}")


def _in_order(table, fps: float) -> tuple[np.ndarray, np.ndarray]:
    """Which of the rows (T,) comes when, and the frames' times (T,) [s], ascending.

    Stamps that are missing, equal or in disorder are none: frames are as far apart as the dataset's rate says. Damaged where a
    frame is missing between others or there twice.
    """
    stamps = np.array(table["timestamp"].to_pylist(), np.float64)
    numbers = np.arange(len(stamps), dtype=np.float64)
    if "frame_index" in table.column_names:
        numbers = np.array(table["frame_index"].to_pylist(), np.float64)
        if not np.isfinite(numbers).all():
            raise Damaged("has a frame without a number (frame_index): download it again")
    elif np.isfinite(stamps).all():
        numbers = numbers[np.argsort(np.argsort(stamps, kind="stable"))]
    order = np.argsort(numbers, kind="stable")
    steps = np.diff(numbers[order])
    if (steps != 1.0).any():
        at = int(np.argmax(steps != 1.0))
        before, after = numbers[order][at : at + 2]
        raise Damaged(
            f"has frame {before:g} twice" if before == after else f"lacks what is between frames {before:g} and {after:g}: {AGAIN}"
        )
    times = stamps[order]
    return order, times if np.isfinite(times).all() and (np.diff(times) > 0.0).all() else numbers[order] / fps


def _actions(cells: list, order: np.ndarray) -> np.ndarray:
    """Actions (T, 7) in order. Damaged for a row that is none."""
    rows = [cells[i] for i in order]
    for frame, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != 7 or None in row:
            said = "no action" if row is None else f"an action of {len(row)} numbers" if isinstance(row, list) else repr(row)
            raise Damaged(f"has {said} in frame {frame}, where seven numbers are needed")
    return np.array(rows, np.float64)


def video_frames(path: Path, times: np.ndarray, tolerance: float) -> Iterator[np.ndarray]:
    """The frames (H, W, 3) uint8 RGB of a video at these ascending times [s], each within a tolerance [s]."""
    try:
        import av
    except ImportError as error:
        raise RecordingError(f"decoding {path.name} needs PyAV: pip install 'vla_sd_ros[data]'") from error
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}  # a small file can claim a picture of gigabytes
            container.seek(int(max(times[0] - tolerance, 0.0) / stream.time_base), stream=stream)  # a key frame before
            frames = container.decode(stream)
            for time in times:
                frame = next((frame for frame in frames if frame.time >= time - tolerance), None)
                if frame is None or frame.time > time + tolerance:
                    raise Damaged(
                        f"has no picture at {time:.3f} s of {path}: the file is cut short, or the episode's from_timestamp in "
                        "meta/episodes is wrong"
                    )
                yield frame.to_ndarray(format="rgb24")
    except (av.FFmpegError, IndexError, OSError) as error:
        raise Damaged(f"has a video {path} that cannot be decoded ({error}): {AGAIN}") from error
