# SPDX-License-Identifier: Apache-2.0
"""Demonstrations as arrays: packed once into flat files that all training processes map, then drawn in batches."""
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vla_sd_ros.policy.actions import BINS, ActionStatistics, encode, statistics_of

COLUMNS = ("actions", "ee_positions", "grasp_points", "place_points", "held")
SHIFT = 3  # [pixels], largest shift of the augmentation
PREFIX_NOISE = 9  # [bins], largest error of the tokens that the model conditions on: relaxed acceptance makes such errors
PREFIX_NOISE_PROBABILITY = 0.2  # of each token
NEAR = 0.03  # [m]: frames this near to the grasp or the place, or about to move the gripper, are drawn twice as often


@dataclass(frozen=True)
class Frames:
    """images: (N, H, W, 3) uint8, mapped. columns: arrays (N, ...). instructions: (N,) index into sentences."""

    images: np.ndarray
    columns: dict[str, np.ndarray]
    instructions: np.ndarray
    sentences: list[str]

    def statistics(self) -> ActionStatistics:
        return statistics_of(self.columns["actions"])

    def weights(self) -> np.ndarray:
        """Probability (N,) of each frame to be drawn."""
        to_grasp, to_place = (
            np.linalg.norm(self.columns[name] - self.columns["ee_positions"], axis=1)
            for name in ("grasp_points", "place_points")
        )
        weight = 1.0 + (np.where(self.columns["held"], to_place, to_grasp) < NEAR)
        return weight / weight.sum()


def episode_files(directories: list[Path]) -> list[Path]:
    """The episodes below `directories`, without the expert's failed attempts. Raises FileNotFoundError for none."""
    files = [path for directory in directories for path in sorted(directory.rglob("episode*.npz")) if _has_images(path)]
    if not files:
        raise FileNotFoundError(f"no episodes below {', '.join(map(str, directories))}: run vla-sd collect first")
    return files


def _has_images(path: Path) -> bool:
    with np.load(path) as episode:
        return "images" in episode


def pack(directories: list[Path], output: Path) -> None:
    """Collect the successful episodes below `directories` into flat files in `output`."""
    files = episode_files(directories)
    output.mkdir(parents=True, exist_ok=True)
    episodes, sentences = [], []
    with (output / "images.raw").open("wb") as images:
        for path in tqdm(files, desc="packing", unit="episode"):
            with np.load(path) as episode:
                shape = episode["images"].shape
                images.write(np.ascontiguousarray(episode["images"]).tobytes())
                sentence = str(episode["instruction"])
                if sentence not in sentences:
                    sentences.append(sentence)
                columns = {name: episode[name].astype(np.float32) for name in COLUMNS}
                episodes.append({**columns, "instructions": np.full(shape[0], sentences.index(sentence))})
    joined = {name: np.concatenate([episode[name] for episode in episodes]) for name in episodes[0]}
    np.savez(output / "columns.npz", **joined)
    (output / "meta.json").write_text(json.dumps({"sentences": sentences, "shape": shape[1:], "episodes": len(episodes)}))


def open_frames(directory: Path) -> Frames:
    """Frames packed before."""
    meta = json.loads((directory / "meta.json").read_text())
    with np.load(directory / "columns.npz") as file:
        columns = {name: file[name] for name in file}
    instructions = columns.pop("instructions")
    columns["held"] = columns["held"] > 0.5
    images = np.memmap(directory / "images.raw", np.uint8, "r", shape=(len(instructions), *meta["shape"]))
    return Frames(images, columns, instructions, meta["sentences"])


@dataclass(frozen=True)
class Batch:
    """images (B, H, W, 3) uint8; instructions (B,); bins (B, 7) int; positions (B, 7): bins as real numbers.

    prefix (B, 7) int: bins with some errors, the tokens that the model conditions on.
    to_grasp, to_place, ee (B, 3) [m]; held (B,) 0 or 1.
    """

    images: Tensor
    instructions: np.ndarray
    bins: Tensor
    prefix: Tensor
    positions: Tensor
    to_grasp: Tensor
    to_place: Tensor
    ee: Tensor
    held: Tensor


class Batches:
    """An endless stream of augmented batches."""

    def __init__(self, frames: Frames, statistics: ActionStatistics, size: int, seed: int):
        self._frames, self._size = frames, size
        self._rng = np.random.default_rng(seed)
        self._cumulative = np.cumsum(frames.weights())
        normalised = statistics.normalise(frames.columns["actions"])
        self._bins = encode(normalised)
        self._positions = (normalised + 1.0) / 2.0 * 255.0 - 0.5

    def draw(self) -> Batch:
        index = np.sort(np.searchsorted(self._cumulative, self._rng.random(self._size)).clip(max=len(self._bins) - 1))
        columns = {name: values[index] for name, values in self._frames.columns.items()}
        ee = columns["ee_positions"]
        return Batch(
            images=torch.from_numpy(np.stack([self._shifted(self._frames.images[i]) for i in index])),
            instructions=self._frames.instructions[index],
            bins=torch.from_numpy(self._bins[index]),
            prefix=torch.from_numpy(self._with_errors(self._bins[index])),
            positions=torch.from_numpy(self._positions[index]).float(),
            to_grasp=torch.from_numpy(columns["grasp_points"] - ee), to_place=torch.from_numpy(columns["place_points"] - ee),
            ee=torch.from_numpy(ee), held=torch.from_numpy(columns["held"].astype(np.float32)),
        )

    def _with_errors(self, bins: np.ndarray) -> np.ndarray:
        errors = self._rng.integers(-PREFIX_NOISE, PREFIX_NOISE + 1, bins.shape)
        return np.clip(bins + errors * (self._rng.random(bins.shape) < PREFIX_NOISE_PROBABILITY), 0, BINS - 1)

    def _shifted(self, image: np.ndarray) -> np.ndarray:
        """A random shift, the border repeated."""
        down, right = self._rng.integers(0, 2 * SHIFT + 1, 2)
        height, width = image.shape[:2]
        return np.pad(image, ((SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), mode="edge")[down : down + height, right : right + width]


def vary_colours(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Random brightness, contrast and tint of normalised pixels (B, 3, H, W)."""
    batch = pixels.shape[0]
    gain = 1.0 + 0.15 * (2 * torch.rand(batch, 1, 1, 1, generator=generator) - 1)
    tint = 1.0 + 0.06 * (2 * torch.rand(batch, 3, 1, 1, generator=generator) - 1)
    offset = 0.3 * (2 * torch.rand(batch, 1, 1, 1, generator=generator) - 1)
    return pixels * gain * tint + offset
