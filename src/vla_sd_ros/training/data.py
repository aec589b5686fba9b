# SPDX-License-Identifier: Apache-2.0
"""Demonstrations as arrays: packed once into flat files that all training processes map, then drawn in batches.

An image can have been asked about in several ways: its columns have one entry for each job J that its scene allows, the one
that was done first. The others are valid only while nothing is held.
"""

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vla_sd_ros.policy.actions import BINS, ActionStatistics, encode, statistics_of
from vla_sd_ros.sim import sentences
from vla_sd_ros.sim.suites import PERTURBED

COLUMNS = ("actions", "grasp_points", "place_points")  # of each job
MOST_JOBS = 10
QUESTIONS = 3  # jobs about which one image is asked in a batch
SHIFT = 3  # [pixels], largest shift of the augmentation
PREFIX_NOISE = 9  # [bins], largest error of the tokens that the model conditions on: relaxed acceptance makes such errors
PREFIX_NOISE_PROBABILITY = 0.2  # of each token
BLURRED = 0.25  # of the sentences
STRANGE = "xyzzy"  # a word that no tokenizer of ours knows
EVENT_DISTANCE = 0.03  # [m]: frames this close to the grasp or the place are drawn three times as often


@dataclass(frozen=True)
class Frames:
    """images: (N, H, W, 3) uint8, mapped. camera (3, 4): from a point in the base frame [m], homogeneous, to pixels.

    columns: ee_positions (N, 3) [m]; held (N,) bool; jobs (N, J), index into sentences or -1; and of these jobs actions
    (N, J, 7), grasp_points and place_points (N, J, 3) [m]. sentences: for each index all that ask for the same.
    """

    images: np.ndarray
    columns: dict[str, np.ndarray]
    sentences: list[list[str]]
    camera: np.ndarray

    def statistics(self) -> ActionStatistics:
        """Of the actions that are learnt."""
        return statistics_of(self.columns["actions"][:, 0])

    def weights(self) -> np.ndarray:
        """Probability (N,) of each frame to be drawn."""
        to_grasp, to_place = (
            np.linalg.norm(self.columns[name][:, 0] - self.columns["ee_positions"], axis=1)
            for name in ("grasp_points", "place_points")
        )
        weight = 1.0 + 2.0 * (np.where(self.columns["held"], to_place, to_grasp) < EVENT_DISTANCE)
        return weight / weight.sum()


def episode_files(directories: list[Path]) -> list[Path]:
    """The episodes below `directories`, without the expert's failed attempts. Raises FileNotFoundError for none."""
    files = [path for directory in directories for path in sorted(directory.rglob("episode*.npz")) if _has_images(path)]
    if not files:
        raise FileNotFoundError(f"no episodes below {', '.join(map(str, directories))}: run vla-sd collect first")
    return files


def _has_images(path: Path) -> bool:
    try:
        with np.load(path) as episode:
            return "images" in episode
    except (OSError, EOFError, ValueError, BadZipFile) as error:
        raise ValueError(f"{path} cannot be read ({error}): remove it and run vla-sd collect again") from error


def pack(directories: list[Path], output: Path) -> None:
    """Collect the successful episodes below `directories` into flat files in `output`.

    Raises ValueError for an episode that is none, or from a scene that is for measurement alone.
    """
    files = episode_files(directories)
    output.mkdir(parents=True, exist_ok=True)
    episodes: list[dict[str, np.ndarray]] = []
    known: list[str] = []
    with (output / "images.raw").open("wb") as images:
        for path in tqdm(files, desc="packing", unit="episode"):
            with np.load(path) as episode:
                try:
                    if (suite := str(episode["suite"])) in PERTURBED:
                        raise ValueError(f"{path} is from {suite}, which is for measurement alone")
                    shape, camera = episode["images"].shape, episode["camera"]
                    episodes.append(_columns(episode, known))
                except KeyError as error:
                    raise ValueError(f"{path} was not made by this version of vla-sd collect: {error.args[0]}") from error
                images.write(np.ascontiguousarray(episode["images"]).tobytes())
    joined: dict[str, Any] = {name: np.concatenate([episode[name] for episode in episodes]) for name in episodes[0]}
    np.savez(output / "columns.npz", **joined)
    meta = {"sentences": known, "shape": shape[1:], "episodes": len(episodes), "camera": camera.tolist()}
    (output / "meta.json").write_text(json.dumps(meta))


def _columns(episode, known: list[str]) -> dict[str, np.ndarray]:
    """Columns of Frames of one episode's file; sentences that are not yet known are added to them."""
    held, asked = episode["held"], [str(episode["instruction"]), *map(str, episode["sentences"])][:MOST_JOBS]
    known += [sentence for sentence in asked if sentence not in known]
    jobs = np.full((len(held), MOST_JOBS), -1)
    jobs[:, : len(asked)] = [known.index(sentence) for sentence in asked]
    jobs[held, 1:] = -1
    columns = {"ee_positions": episode["ee_positions"].astype(np.float32), "held": held, "jobs": jobs}
    for name in COLUMNS:
        own, others = episode[name][:, None], episode[f"other_{name}"]
        values = np.concatenate((own, others), axis=1)[:, :MOST_JOBS].astype(np.float32)
        columns[name] = np.pad(values, ((0, 0), (0, MOST_JOBS - values.shape[1]), (0, 0)))
    return columns


def open_frames(directory: Path) -> Frames:
    """Frames packed before."""
    meta = json.loads((directory / "meta.json").read_text())
    with np.load(directory / "columns.npz") as file:
        columns = {name: file[name] for name in file}
    images = np.memmap(directory / "images.raw", np.uint8, "r", shape=(len(columns["held"]), *meta["shape"]))
    return Frames(images, columns, [sentences.trained(s) for s in meta["sentences"]], np.array(meta["camera"]))


@dataclass(frozen=True)
class Batch:
    """images (B, H, W, 3) uint8, each asked about Q times: instructions (B, Q), sentences; what follows has B * Q rows.

    jobs (B * Q,): the instructions' numbers, the same for all that ask for the same. bins (B * Q, 7) int; positions:
    bins as real numbers; prefix: bins with some errors, the tokens that the model conditions
    on. to_grasp, to_place, ee (B * Q, 3) [m]; held (B * Q,) 0 or 1. grasp_at, place_at (B * Q, 2): where grasp and place
    are in the image, as fractions of its width and height.
    """

    images: Tensor
    instructions: list[list[str]]
    jobs: Tensor
    bins: Tensor
    prefix: Tensor
    positions: Tensor
    to_grasp: Tensor
    to_place: Tensor
    ee: Tensor
    held: Tensor
    grasp_at: Tensor
    place_at: Tensor

    def to(self, device: str) -> "Batch":
        """The same on another device."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {name: part.to(device) for name, part in parts.items() if isinstance(part, Tensor)}
        return replace(self, **moved)


class Batches:
    """An endless stream of augmented batches of `size` images. questions: how often each is asked about. own: those of the images
    that are wanted; the others are drawn, but not read."""

    def __init__(
        self, frames: Frames, statistics: ActionStatistics, size: int, seed, questions: int = QUESTIONS, own: slice = slice(None)
    ):
        self._frames, self._size, self._questions, self._own = frames, size, questions, own
        self._rng = np.random.default_rng(seed)
        self._cumulative = np.cumsum(frames.weights())
        self._statistics = statistics

    def draw(self) -> Batch:
        """The next batch, drawn with the weights of the frames."""
        columns = self._frames.columns
        index = np.sort(np.searchsorted(self._cumulative, self._rng.random(self._size)).clip(max=len(columns["held"]) - 1))
        jobs = np.stack([self._choose(columns["jobs"][i]) for i in index])
        rows, flat = np.repeat(index, self._questions), jobs.ravel()
        actions, grasp, place = (columns[name][rows, flat] for name in COLUMNS)
        ee, held = columns["ee_positions"][rows], columns["held"][rows].astype(np.float32)
        normalised = self._statistics.normalise(actions)
        bins = encode(normalised)
        shifts = self._rng.integers(0, 2 * SHIFT + 1, (self._size, 2))  # of the border from below, from the right
        shift = np.repeat(SHIFT - shifts[:, ::-1], self._questions, axis=0)
        said = [[self._say(columns["jobs"][i, j]) for j in chosen] for i, chosen in zip(index, jobs)]
        prefix = self._with_errors(bins)
        first, last, _ = self._own.indices(self._size)
        own, asked = slice(first, last), slice(first * self._questions, last * self._questions)
        return Batch(
            images=torch.from_numpy(np.stack([_shifted(self._frames.images[i], *by) for i, by in zip(index[own], shifts[own])])),
            instructions=said[own],
            jobs=torch.from_numpy(columns["jobs"][rows, flat][asked]),
            bins=torch.from_numpy(bins[asked]),
            prefix=torch.from_numpy(prefix[asked]),
            positions=torch.from_numpy((normalised[asked] + 1.0) / 2.0 * 255.0 - 0.5).float(),
            to_grasp=torch.from_numpy((grasp - ee)[asked]),
            to_place=torch.from_numpy((place - ee)[asked]),
            ee=torch.from_numpy(ee[asked]),
            held=torch.from_numpy(held[asked]),
            grasp_at=self._in_image(grasp[asked], shift[asked]),
            place_at=self._in_image(place[asked], shift[asked]),
        )

    def _choose(self, jobs: np.ndarray) -> np.ndarray:
        """Which of an image's jobs (J,) to ask about (Q,): the one that was done, then others; it again if there are none."""
        others = self._rng.permutation(np.flatnonzero(jobs[1:] >= 0) + 1)[: self._questions - 1]
        return np.concatenate(([0], others, np.zeros(self._questions - 1 - len(others), int))).astype(int)

    def _say(self, job: int) -> str:
        """LIBERO's own sentence half of the time, else another that asks for the same, sometimes with words that nobody knows."""
        own, *others = self._frames.sentences[job]
        said = own if not others or self._rng.random() < 0.5 else others[self._rng.integers(len(others))]
        return self._blurred(said) if self._rng.random() < BLURRED else said

    def _blurred(self, sentence: str) -> str:
        """Some of the words that name nothing are replaced by an unknown one, or get one before them."""
        words = []
        for word in sentence.split():
            chance = self._rng.random()
            words += [STRANGE, word] if chance < 0.1 else [STRANGE] if chance < 0.5 and word in sentences.FILLERS else [word]
        return " ".join(words)

    def _in_image(self, points: np.ndarray, shift: np.ndarray) -> Tensor:
        """Where points (n, 3) [m] of the base frame are in images shifted by (n, 2) pixels right and down, as fractions."""
        projected = np.column_stack((points, np.ones(len(points)))) @ self._frames.camera.T
        pixels = projected[:, :2] / projected[:, 2:] + shift
        return torch.from_numpy(((pixels + 0.5) / self._frames.images.shape[1]).astype(np.float32))

    def _with_errors(self, bins: np.ndarray) -> np.ndarray:
        errors = self._rng.integers(-PREFIX_NOISE, PREFIX_NOISE + 1, bins.shape)
        return np.clip(bins + errors * (self._rng.random(bins.shape) < PREFIX_NOISE_PROBABILITY), 0, BINS - 1)


def _shifted(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """The part of an image with its border repeated that begins so far below and to the right: shifted the other way."""
    height, width = image.shape[:2]
    padded = np.pad(image, ((SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), mode="edge")
    return padded[down : down + height, right : right + width]


def vary_colours(pixels: Tensor, generator: torch.Generator, batch: int, own: slice = slice(None)) -> Tensor:
    """Random brightness, contrast and tint of normalised pixels (B, 3, H, W), which are the own rows of so many."""
    gain = 1.0 + 0.15 * (2 * torch.rand(batch, 1, 1, 1, generator=generator) - 1)
    tint = 1.0 + 0.06 * (2 * torch.rand(batch, 3, 1, 1, generator=generator) - 1)
    offset = 0.3 * (2 * torch.rand(batch, 1, 1, 1, generator=generator) - 1)
    return pixels * gain[own] * tint[own] + offset[own]
