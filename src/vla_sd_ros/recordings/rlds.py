# SPDX-License-Identifier: Apache-2.0
"""RLDS datasets as TFDS stores them, the format that OpenVLA is fine-tuned on; neither TensorFlow nor TFDS is needed.

    features.json       what a step holds: names, shapes, encodings; dataset_info.json: in which kind of file
    *.tfrecord-*        one tf.train.Example an episode: all values of all its steps, under names such as
                        steps/observation/image_0

TFDS's descriptions of actions are copied from templates and say nothing; units.py looks at the numbers.
"""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from vla_sd_ros.messages.images import compressed_to_rgb
from vla_sd_ros.recordings.episode import Damaged, Encoded, Episode, Lazily, Options, RecordingError, Skipped
from vla_sd_ros.recordings.tfrecord import features, records
from vla_sd_ros.recordings.units import NO_DELTAS, physical

STEPS = "steps/"
AGAIN = "download it again"
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})")


def rlds_datasets(path: Path) -> Iterable[Path]:
    """The folders of datasets at or below a path."""
    return [file.parent for file in path.rglob("features.json")]


class RldsDataset:
    """Episodes of one dataset, one camera, one instruction an episode (its first step's)."""

    def __init__(self, folder: Path, options: Options):
        self._folder, self._options = folder, options
        try:
            declared = _leaves(json.loads((folder / "features.json").read_text()))
            shapes = {name: _shape(leaf) for name, leaf in declared.items() if name.startswith(STEPS) and "tensor" in leaf}
            kind = json.loads((folder / "dataset_info.json").read_text()).get("fileFormat", "tfrecord")
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise Damaged(f"is a TFDS dataset that cannot be read ({type(error).__name__}: {error}): {AGAIN}") from error
        if not any(name.startswith(STEPS) for name in declared):
            raise Damaged("is a TFDS dataset without steps, so of no robot's episodes: leave it out")
        if kind != "tfrecord":
            raise Damaged(f"is stored as {kind}: convert it with `tfds convert_format --out_file_format=tfrecord`")
        self._shards = sorted(path for path in folder.iterdir() if _SHARD.fullmatch(path.name))
        if not self._shards:
            raise Damaged(f"is a TFDS dataset without a file of episodes (*.tfrecord-00000-of-...): {AGAIN}")
        self._action = self._find_action(declared, shapes)
        self._camera = self._one_camera([name for name, leaf in declared.items() if "image" in leaf])
        self._sentence = next((name for name, leaf in declared.items() if "text" in leaf and "instruction" in name), "")

    def __iter__(self) -> Iterator[Episode | Skipped]:
        yield from self._missing()
        for shard in self._shards:
            count = 0
            try:
                for count, record in enumerate(records(shard), start=1):
                    name = f"{shard}#{count - 1}"
                    try:
                        yield self._episode(record, name)
                    except Damaged as error:
                        yield Skipped(name, str(error))
            except (Damaged, OSError) as error:
                yield Skipped(str(shard), f"{error}, after {count} episodes: {AGAIN}")

    def _missing(self) -> Iterator[Skipped]:
        """Files of which others say that they are part of the set."""
        there: dict[tuple[str, str], set[int]] = {}
        for shard in self._shards:
            if name := _SHARD.fullmatch(shard.name):
                prefix, number, total = name.groups()
                there.setdefault((prefix, total), set()).add(int(number))
        for (prefix, total), numbers in there.items():
            for number in sorted(set(range(int(total))) - numbers):
                yield Skipped(str(self._folder / f"{prefix}-{number:05d}-of-{total}"), f"is not there: {AGAIN}")

    def _episode(self, record: bytes | None, name: str) -> Episode:
        if record is None:
            raise Damaged(f"has a wrong checksum: {AGAIN}")
        values, stride = features(record), self._options.stride
        numbers, pictures = values.get(self._action, np.zeros(0)), values.get(self._camera, [])
        if len(numbers) % 7 or isinstance(numbers, list):
            raise Damaged(f"has {len(numbers)} numbers as actions, which are not seven a step")
        actions = np.asarray(numbers, np.float64).reshape(-1, 7)
        if isinstance(pictures, np.ndarray) and pictures.size:
            raise Damaged(f"has numbers as pictures of {self._camera}: write the dataset with an image's encoding")
        if len(pictures) != len(actions):
            raise Damaged(f"has {len(actions)} actions, but {len(pictures)} images of {self._camera}")
        if not len(actions):
            raise Damaged("is empty")
        if len(pictures) > 1 and len(set(pictures)) == 1:  # has_image_0 and the like are no guide: Bridge's say no throughout
            raise Damaged(f"has one and the same picture in all steps of {self._camera}, a placeholder: name another --camera")
        said = values.get(self._sentence, [])
        if isinstance(said, np.ndarray) and said.size:
            raise Damaged(f"has numbers as its instruction {self._sentence}: give --instruction")
        period = stride / self._options.rate if self._options.rate else None
        actions = physical(actions, self._options)
        rewards = values.get(STEPS + "reward", [])
        rewarded = not isinstance(rewards, list) and np.any(rewards > 0.0)
        return Episode(
            Lazily(map, _picture, pictures[::stride]),
            actions,
            self._options.instruction or next(iter(said), b"").decode(errors="replace"),
            name,
            period * np.arange(len(actions)) if period else None,
            period,
            True if rewarded else None,
        )

    def _find_action(self, declared: dict[str, dict], shapes: dict[str, tuple[int, ...]]) -> str:
        name = STEPS + self._options.action
        if shapes.get(name) != (7,):
            fitting = ", ".join(key.removeprefix(STEPS) for key in shapes if shapes[key] == (7,)) or "(none)"
            there = f"of shape {shapes[name]}" if name in shapes else "not there"
            raise RecordingError(
                f"the RLDS dataset {self._folder}: its actions {self._options.action!r} are {there}, and {NO_DELTAS}: name them "
                f"with --action; of shape (7,) are {fitting}"
            )
        encoding = str(declared[name]["tensor"].get("encoding", "none")).lower()
        if encoding != "none":
            raise RecordingError(
                f"the RLDS dataset {self._folder} has packed its actions ({encoding}): write it again without an encoding"
            )
        return name

    def _one_camera(self, cameras: list[str]) -> str:
        short = {name.rsplit("/", 1)[-1]: name for name in cameras}
        camera = self._options.camera or (next(iter(short)) if len(short) == 1 else "")
        if camera not in short:
            raise RecordingError(
                f"the RLDS dataset {self._folder} has the cameras {', '.join(sorted(short)) or '(none)'}: name the one that the "
                "policy is used to with --camera"
            )
        return short[camera]


def _picture(encoded: bytes) -> np.ndarray | None:
    try:
        return compressed_to_rgb(Encoded(encoded)) if encoded else None
    except ValueError as error:
        raise Damaged(f"has a picture that cannot be read ({error}): {AGAIN}") from error


def _shape(leaf: dict) -> tuple[int, ...]:
    return tuple(int(size) for size in leaf["tensor"].get("shape", {}).get("dimensions", []))


def _leaves(feature: dict, name: str = "") -> dict[str, dict]:
    """Features by the names that their values have in a record."""
    if "sequence" in feature:
        return _leaves(feature["sequence"]["feature"], name)
    if "featuresDict" not in feature:
        return {name: feature}
    leaves: dict[str, dict] = {}
    for key, part in feature["featuresDict"]["features"].items():
        leaves |= _leaves(part, f"{name}/{key}" if name else key)
    return leaves
