# SPDX-License-Identifier: Apache-2.0
"""LeRobot datasets on the local disk, in the layouts v2.0, v2.1 and v3.0; the package lerobot is not needed.

    meta/info.json      codebase_version, fps, features, data_path, video_path, total_frames
    data/**/*.parquet   one row a frame: action, timestamp, episode_index, task_index; images, where they are no videos
    v2: meta/tasks.jsonl; one parquet file and one video an episode
    v3: meta/tasks.parquet; several episodes in a file, meta/episodes/**/*.parquet says where each begins in its video
"""
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla_sd_ros.images import MAX_PIXELS, compressed_to_rgb
from vla_sd_ros.retrieval.database import DatabaseError
from vla_sd_ros.retrieval.sources import Episode, Options

COLUMNS = ("timestamp", "episode_index", "task_index")


@dataclass(frozen=True)
class Video:
    """path: of the file. begin [s]: where the episode begins in it."""

    path: Path
    begin: float


class LeRobotDataset:
    """Episodes of one dataset, one camera, one instruction an episode (its first frame's task)."""

    def __init__(self, root: Path, options: Options):
        self._root, self._options = root, options
        try:
            self._info = json.loads((root / "meta" / "info.json").read_text())
            self._version = str(self._info["codebase_version"])
            self._features, self._fps = self._info["features"], float(self._info["fps"])
            if self._version[:2] not in ("v2", "v3"):
                raise DatabaseError(f"the LeRobot dataset {root} has version {self._version}: convert it to v3.0")
            self._camera = self._one_camera()
            self._check_action()
            self._files = sorted((root / "data").rglob("*.parquet"))
            self._check_complete()
            self._tasks = self._read_tasks()
            self._stored = self._features[self._camera]["dtype"] == "image"
            self._videos = {} if self._stored else self._find_videos()
        except DatabaseError:
            raise
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise self._damaged(error) from error
        self.steps = -(-int(self._info["total_frames"]) // options.stride)

    def __iter__(self) -> Iterator[Episode]:
        names = [*COLUMNS, self._options.action]
        for path in self._files:
            table = self._read(path, [*names, self._camera] if self._stored else names, optional=("next.success",))
            indices = table["episode_index"].to_numpy()
            for episode in np.unique(indices):
                rows = np.flatnonzero(indices == episode)
                frames = table.slice(rows[0], len(rows))
                if self._succeeded(frames):
                    yield self._episode(int(episode), frames)

    def _episode(self, number: int, frames) -> Episode:
        name = f"{self._root}#{number}"
        actions = np.array(frames[self._options.action].to_pylist(), np.float64)
        times = frames["timestamp"].to_numpy()[:: self._options.stride]
        if self._stored:
            stored = frames[self._camera].to_pylist()[:: self._options.stride]
            images = (self._picture(picture, name) for picture in stored)
        elif number in self._videos:
            video = self._videos[number]
            images = video_frames(video.path, video.begin + times, 0.5 / self._fps)
        else:
            raise DatabaseError(f"{name} has no video in the dataset's meta/episodes: download it again")
        task = frames["task_index"][0].as_py()
        if task not in self._tasks:
            raise DatabaseError(f"{name} has task {task}, which the dataset's meta/tasks does not name")
        return Episode(images, self._physical(actions), self._options.instruction or self._tasks[task], name)

    def _physical(self, actions: np.ndarray) -> np.ndarray:
        """In metres, radians and opening; the deltas of `stride` frames as one."""
        metres, radians = self._options.action_scale
        closed, opened = self._options.gripper
        scaled = np.column_stack([
            actions[:, :3] * metres, actions[:, 3:6] * radians, (actions[:, 6] - closed) / (opened - closed)
        ])
        return np.stack([
            composed(scaled[i : i + self._options.stride]) for i in range(0, len(scaled), self._options.stride)
        ])

    def _succeeded(self, frames) -> bool:
        """Where the dataset records it; demonstrations without such a column are taken for good."""
        if self._options.include_failed or "next.success" not in frames.column_names:
            return True
        return bool(np.any(frames["next.success"].to_numpy()))

    def _one_camera(self) -> str:
        cameras = [name for name, feature in self._features.items() if feature["dtype"] in ("image", "video")]
        camera = self._options.camera or (cameras[0] if len(cameras) == 1 else "")
        if camera not in cameras:
            raise DatabaseError(f"the LeRobot dataset {self._root} has the cameras {', '.join(cameras) or '(none)'}: name "
                                "the one that the policy is used to with --camera")
        return camera

    def _check_action(self) -> None:
        key = self._options.action
        if key not in self._features:
            raise DatabaseError(f"the LeRobot dataset {self._root} has no {key!r}: name its actions with --action; it has "
                                f"{', '.join(sorted(self._features))}")
        names = self._features[key].get("names")
        if tuple(self._features[key]["shape"]) != (7,) or "joint" in str(names).lower():
            raise DatabaseError(f"the LeRobot dataset {self._root} has actions {key!r} of shape "
                                f"{tuple(self._features[key]['shape'])} ({names}): end-effector deltas x, y, z, roll, "
                                "pitch, yaw and gripper are needed, joint positions cannot be used")

    def _check_complete(self) -> None:
        parquet = self._parquet()
        present = sum(parquet.read_metadata(path).num_rows for path in self._files)
        if present != self._info["total_frames"]:
            raise DatabaseError(f"the LeRobot dataset {self._root} has {present} of {self._info['total_frames']} frames: "
                                "download it completely")

    def _read_tasks(self) -> dict[int, str]:
        """Sentences by task_index."""
        if self._version.startswith("v2"):
            lines = (self._root / "meta" / "tasks.jsonl").read_text().splitlines()
            return {task["task_index"]: task["task"] for task in map(json.loads, lines)}
        table = self._parquet().read_table(self._root / "meta" / "tasks.parquet")
        sentences = next(name for name in table.column_names if name != "task_index")  # written as a data frame's index
        return dict(zip(table["task_index"].to_pylist(), table[sentences].to_pylist()))

    def _find_videos(self) -> dict[int, Video]:
        """Where each episode's video is, by episode_index."""
        template, camera = self._info["video_path"], self._camera
        if self._version.startswith("v2"):
            size = self._info["chunks_size"]
            return {
                i: Video(self._root / template.format(episode_chunk=i // size, video_key=camera, episode_index=i), 0.0)
                for i in range(self._info["total_episodes"])
            }
        columns = [f"videos/{camera}/{name}" for name in ("chunk_index", "file_index", "from_timestamp")]
        videos = {}
        for path in sorted((self._root / "meta" / "episodes").rglob("*.parquet")):
            table = self._read(path, ["episode_index", *columns])
            for episode, chunk, file, begin in zip(*(table[name].to_pylist() for name in ("episode_index", *columns))):
                path = self._root / template.format(video_key=camera, chunk_index=chunk, file_index=file)
                videos[episode] = Video(path, begin)
        return videos

    def _read(self, path: Path, columns: list[str], optional: tuple[str, ...] = ()):
        """A table of these columns."""
        parquet = self._parquet()
        try:
            there = parquet.read_schema(path).names
            missing = [name for name in columns if name not in there]
            if missing:
                raise ValueError(f"{path.name} lacks {', '.join(missing)}")
            return parquet.read_table(path, columns=[*columns, *(name for name in optional if name in there)])
        except (OSError, ValueError) as error:
            raise self._damaged(error) from error

    def _parquet(self):
        try:
            from pyarrow import parquet
        except ImportError as error:
            raise DatabaseError("reading a LeRobot dataset needs pyarrow: pip install 'vla_sd_ros[data]'") from error
        return parquet

    def _picture(self, stored: dict, name: str) -> np.ndarray:
        """An image feature's cell: the encoded file, or its path below the dataset."""
        try:
            encoded = stored["bytes"] or (self._root / stored["path"]).read_bytes()
            return compressed_to_rgb(_Encoded(encoded, "png"))
        except (OSError, ValueError) as error:
            raise DatabaseError(f"{name}: {error}") from error

    def _damaged(self, error: Exception) -> DatabaseError:
        return DatabaseError(f"the LeRobot dataset {self._root} cannot be read ({type(error).__name__}: {error}): download "
                             "it again")


@dataclass(frozen=True)
class _Encoded:
    data: bytes
    format: str


def composed(actions: np.ndarray) -> np.ndarray:
    """One action (7,) that does what these (n, 7) do one after the other, in the semantics of bridge_orig."""
    from pinocchio.rpy import matrixToRpy, rpyToMatrix

    if len(actions) == 1:
        return actions[0]
    rotation = np.eye(3)
    for roll, pitch, yaw in actions[:, 3:6]:
        rotation = rpyToMatrix(roll, pitch, yaw) @ rotation
    return np.concatenate([actions[:, :3].sum(0), matrixToRpy(rotation), actions[-1:, 6]])


def video_frames(path: Path, times: np.ndarray, tolerance: float) -> Iterator[np.ndarray]:
    """The frames (H, W, 3) uint8 RGB of a video at these ascending times [s], each within a tolerance [s]."""
    try:
        import av
    except ImportError as error:
        raise DatabaseError(f"decoding {path.name} needs PyAV: pip install 'vla_sd_ros[data]'") from error
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
                    raise DatabaseError(f"{path} has no frame at {time:.3f} s: download it again")
                yield frame.to_ndarray(format="rgb24")
    except (av.FFmpegError, IndexError, OSError) as error:
        raise DatabaseError(f"{path} cannot be decoded ({error}): download it again") from error
