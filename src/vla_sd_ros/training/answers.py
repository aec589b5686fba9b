# SPDX-License-Identifier: Apache-2.0
"""What a policy says to recorded images: asked once, by one policy on its device, kept in shards, read in bounded memory.

    EPISODE-000.safetensors     up to SHARD images of one episode, all under one prompt of n tokens: cells (T, cells, width) and
                                hidden (T, n + 6, h), the last hidden states of the prompt and of the first six action tokens, in
                                two bytes each; features (T, width), pooled, for retrieval; bins (T, 7), the greedy tokens;
                                steps (T,); before (1, h) and after (m, h), embeddings of the prompt around the image
    EPISODE.npz                 the episode is whole: its actions (steps, 7), instruction, name, and the rows of each shard
    policy.safetensors          what training needs of the policy beside them (see Ends)

EPISODE is made of what was said and done, so that the same episode has the same name in whatever kind of recording it lies.
The embeddings of an image are not kept: the projector makes them of the cells again for a tenth of what a drafter costs.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vla_sd_ros.inputs import BadInput
from vla_sd_ros.policy import checkpoint
from vla_sd_ros.policy.batch import BatchedVla
from vla_sd_ros.policy.config import VlaConfig
from vla_sd_ros.policy.draft import chain
from vla_sd_ros.policy.model import projector_of
from vla_sd_ros.policy.vla import ACTION_TOKENS, Prompt, Vla
from vla_sd_ros.recordings import Episode, RecordingError
from vla_sd_ros.training.loop import write_whole
from vla_sd_ros.whole_files import read_arrays

SHARD = 32  # images; of a 7 B policy 110 MB
DRAFTED = ACTION_TOKENS - 1  # the first token is always the verifier's
ENDS = "policy.safetensors"
MARK = "policy.json"  # of which policy the answers are
MEMORY = 2000  # MB


def digest(episode: Episode) -> str:
    """Sixteen hexadecimal digits of what was said and done in an episode."""
    said = hashlib.sha256(episode.instruction.encode())
    said.update(np.ascontiguousarray(episode.actions, np.float32).tobytes())
    return said.hexdigest()[:16]


def named(episodes: Iterable[Episode]) -> Iterator[tuple[str, Episode]]:
    """Each episode with its name among the answers; one that is there twice has two."""
    seen: Counter = Counter()
    for episode in episodes:
        key = digest(episode)
        seen[key] += 1
        yield (key if seen[key] == 1 else f"{key}_{seen[key]}"), episode


def held_out(keys: Iterable[str], every: int) -> set[str]:
    """Those of the episodes' names that only measure, one in `every`: the first in the order of their digests.

    So an episode is held out or not wherever it lies, and its copies with it. Raises BadInput where that leaves none to learn
    from.
    """
    keys = list(keys)
    different = sorted({key[:16] for key in keys})
    if every < 2 or len(different) < 2:
        same = f" (of {len(keys)}, the others are copies)" if len(different) < len(keys) else ""
        raise BadInput(
            f"{len(different)} episodes{same} with one in {every} held out leave none to learn from: give more recordings, or a "
            "larger --held-out"
        )
    apart = set(different[: max(1, round(len(different) / every))])
    return {key for key in keys if key[:16] in apart}


@dataclass(frozen=True)
class Ends:
    """The policy in front of its language model and behind it, as training and drafters need it; they take it for a Vla.

    lm_head, action_embeddings (256, h): of the action tokens, in the order of the bins. project: cells (B, cells, width) to
    embeddings of the image (B, tokens, h).
    """

    config: VlaConfig
    lm_head: Tensor
    action_embeddings: Tensor
    project: nn.Module

    @property
    def device(self) -> torch.device:
        """Where the tensors lie, and so where `embeddings` computes."""
        return self.lm_head.device

    def embeddings(self, rows: Sequence[tuple[dict[str, Tensor], int]]) -> list[Tensor]:
        """Embeddings (n + 6, h) of the prompt and of the first six action tokens, of rows of shards."""
        cells = torch.stack([shard["cells"][i] for shard, i in rows]).to(self.device, self.lm_head.dtype)
        with torch.no_grad():
            images = self.project(cells)
        return [
            torch.cat(
                (
                    shard["before"].to(images),
                    image,
                    shard["after"].to(images),
                    self.action_embeddings[shard["bins"][i, :DRAFTED].to(self.device)],
                )
            )
            for (shard, i), image in zip(rows, images)
        ]

    @classmethod
    def of(cls, vla: Vla) -> "Ends":
        """The ends of a loaded policy; nothing is copied."""
        return cls(vla.config, vla.lm_head, vla.action_embeddings, vla.model.projector)

    def save(self, folder: Path) -> None:
        """Write ENDS in a folder of answers; the file is whole or not there."""
        projector = {f"projector.{name}": value for name, value in self.project.state_dict().items()}
        save_whole(folder / ENDS, {"lm_head": self.lm_head, "action_embeddings": self.action_embeddings, **projector})

    @classmethod
    def load(cls, folder: Path, source: str | Path, device: str) -> "Ends":
        """Of the policy `source`, whose answers are in this folder."""
        config, tensors = checkpoint.shape_of(source), load_whole(folder / ENDS)
        projector = projector_of(config).to(tensors["lm_head"].dtype)
        projector.load_state_dict({name.removeprefix("projector."): value for name, value in tensors.items() if "." in name})
        return cls(
            config,
            tensors["lm_head"].to(device),
            tensors["action_embeddings"].to(device),
            projector.to(device).eval().requires_grad_(False),
        )


def ask(
    vla: Vla,
    episodes: Iterable[Episode],
    folder: Path,
    skip: Callable[[str, str], object],
    *,
    rows: int = 8,
    every: int = 1,
    share: tuple[int, int] = (0, 1),
    stepped: Callable[[int], object] = lambda count: None,
) -> None:
    """Let the policy decode the images of these episodes greedily, as far as their answers are not in the folder.

    skip: told of an episode whose images cannot be read, and why. rows: images in a pass. every: use each N-th image. share: of
    several processes (number, count) this one's episodes. stepped: told how many images have been decoded, or were there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    batched = BatchedVla(vla, rows)
    if share[0] == 0 and not (folder / ENDS).exists():
        Ends.of(vla).save(folder)
    for number, (key, episode) in enumerate(named(episodes)):
        if number % share[1] != share[0]:
            continue
        if (folder / f"{key}.npz").exists():
            stepped(-(-len(episode.actions) // every))
            continue
        try:
            _keep(folder, key, episode, _answers(vla, batched, episode, every, stepped))
        except RecordingError as error:
            for path in folder.glob(f"{key}-*.safetensors"):
                path.unlink()
            skip(episode.name, str(error))


def _keep(folder: Path, key: str, episode: Episode, shards: Iterable[dict[str, Tensor]]) -> None:
    """Write the shards of an episode as they come, and what says that it is whole at last."""
    counts = []
    for i, answers in enumerate(shards):
        save_whole(shard_path(folder, key, i), answers)
        counts.append(len(answers["bins"]))
    end(folder, key, episode, counts)


def shard_path(folder: Path, key: str, number: int) -> Path:
    """The file of an episode's shard."""
    return folder / f"{key}-{number:03d}.safetensors"


def end(folder: Path, key: str, episode: Episode, counts: Sequence[int]) -> None:
    """Write what says that an episode is whole. counts: how many images each of its shards has."""
    about: dict[str, Any] = {"actions": episode.actions, "instruction": episode.instruction, "name": episode.name, "rows": counts}
    write_whole(folder / f"{key}.npz", lambda part: np.savez(part, **about))


def _answers(
    vla: Vla, batched: BatchedVla, episode: Episode, every: int, stepped: Callable[[int], object]
) -> Iterator[dict[str, Tensor]]:
    """The tensors of each shard of an episode."""
    for shard in pictures(vla, episode, every):
        yield decode_shard(vla, batched, shard, episode.instruction, stepped)


def pictures(vla: Vla, episode: Episode, every: int) -> Iterator[list[tuple[int, np.ndarray]]]:
    """The images (H, W, 3) of each shard of an episode, with the numbers of their steps. Raises RecordingError."""
    if why := vla.prompts.too_long(episode.instruction):
        raise RecordingError(f"cannot be asked about: {why}")
    there = ((step, image) for step, image in enumerate(episode.images) if image is not None)
    images, found = islice(there, 0, None, every), False
    while shard := list(islice(images, SHARD)):
        found = True
        yield shard
    if not found:
        raise RecordingError("has no image")


def decode_shard(
    vla: Vla,
    batched: BatchedVla,
    shard: Sequence[tuple[int, np.ndarray]],
    instruction: str,
    stepped: Callable[[int], object] = lambda count: None,
) -> dict[str, Tensor]:
    """The tensors of a shard of pictures(). stepped: told how many images have been decoded."""
    parts = []
    for begin in range(0, len(shard), batched.rows):
        steps, images = zip(*shard[begin : begin + batched.rows])
        parts.append(decode(vla, batched, steps, images, instruction))
        stepped(len(steps))
    return {name: parts[0][name] if name in ("before", "after") else torch.cat([part[name] for part in parts]) for name in parts[0]}


def decode(
    vla: Vla, batched: BatchedVla, steps: Sequence[int], images: Sequence[np.ndarray], instruction: str
) -> dict[str, Tensor]:
    """Greedy decoding of several images (H, W, 3), token by token, all at once."""
    rows = list(range(len(images)))
    prompts: list[Prompt] = batched.observe(images, [instruction] * len(images))
    first = batched.prefill(rows, prompts)
    hidden = [torch.stack([out.prompt for out in first])]
    bins = [np.concatenate([out.greedy() for out in first])]
    while len(bins) < ACTION_TOKENS:
        passes = batched.extend(rows, [chain([token]) for token in bins[-1]])
        for row in rows:
            batched.keep(row, [0])
        hidden.append(torch.stack([out.hidden for out in passes]))
        bins.append(np.concatenate([out.greedy() for out in passes]))
    stored = torch.float16 if vla.lm_head.dtype == torch.float32 else vla.lm_head.dtype
    return {
        "cells": torch.cat([prompt.cells for prompt in prompts]).to("cpu", stored),
        "hidden": torch.cat(hidden, 1).to("cpu", stored),
        "features": torch.stack([prompt.features for prompt in prompts]).float().cpu(),
        "bins": torch.from_numpy(np.stack(bins, 1)),
        "steps": torch.tensor(steps, dtype=torch.int32),
        "before": prompts[0].before.cpu(),
        "after": prompts[0].after.cpu(),
    }


@dataclass(frozen=True)
class Answered:
    """One episode whose answers are whole. shards: its files, and how many images each has."""

    key: str
    name: str
    instruction: str
    actions: np.ndarray
    shards: tuple[tuple[Path, int], ...]

    def images(self) -> int:
        """How many images of the episode were answered."""
        return sum(count for _, count in self.shards)


def answered(folder: Path, keys: Iterable[str] | None = None) -> list[Answered]:
    """The whole episodes in a folder, or those of them with these names, in the order of their names."""
    wanted = None if keys is None else set(keys)
    found = []
    for path in sorted(folder.glob("[0-9a-f]*.npz")):
        if wanted is None or path.stem in wanted:
            file = read_arrays(path, ("rows", "name", "instruction", "actions"))
            shards = tuple((shard_path(folder, path.stem, i), int(count)) for i, count in enumerate(file["rows"]))
            found.append(Answered(path.stem, str(file["name"]), str(file["instruction"]), file["actions"], shards))
    return found


def shards_of(episodes: Iterable[Answered]) -> list[Path]:
    """The files of the episodes, in their order."""
    return [path for episode in episodes for path, _ in episode.shards]


class Window:
    """Rows of shards at random, from as many shards as memory allows; where that is not all, each step brings a new one.

    names: of the tensors that are wanted. What is drawn at a step depends on seed and step alone, so that a training that was
    interrupted goes on as if it had not been, and all processes draw the same. memory: bytes.
    """

    def __init__(self, shards: Sequence[Path], names: Sequence[str], memory: int, seed: int):
        self._shards, self._names, self._seed = list(shards), names, seed
        largest = max(sum(_bytes(path, names)) for path in self._shards)
        self._size = min(len(self._shards), max(1, memory // largest))
        self._open: dict[int, dict[str, Tensor]] = {}

    def draw(self, step: int, count: int) -> list[tuple[dict[str, Tensor], int]]:
        """So many rows, each as a shard's tensors and the number in it."""
        wanted = self._at(step)
        self._open = {i: self._open[i] for i in wanted if i in self._open}
        for i in wanted:
            if i not in self._open:
                self._open[i] = load_whole(self._shards[i], self._names)
        shards = [self._open[i] for i in wanted]
        ends = np.cumsum([len(shard["bins"]) for shard in shards])
        rows = np.random.default_rng([self._seed, 0, step]).integers(ends[-1], size=count)
        which = np.searchsorted(ends, rows, side="right")
        return [(shards[k], int(row - (ends[k - 1] if k else 0))) for k, row in zip(which, rows)]

    def _at(self, step: int) -> list[int]:
        """Numbers of the shards at a step: a window that moves over one random order of all of them after the other."""
        total = len(self._shards)
        if self._size == total:
            return list(range(total))
        places = range(step, step + self._size)
        orders = {
            epoch: np.random.default_rng([self._seed, epoch]).permutation(total) for epoch in {place // total for place in places}
        }
        return list(dict.fromkeys(int(orders[place // total][place % total]) for place in places))


def text_of(shard: dict[str, Tensor]) -> Tensor:
    """What the draft head reads of a prompt: the mean (h,) of its embeddings."""
    return torch.cat((shard["before"], shard["after"])).float().mean(0)


def each(shards: Iterable[Path], names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """One shard after the other."""
    for path in shards:
        yield load_whole(path, names)


def row_bytes(config: VlaConfig, prompt: int = 40) -> int:
    """Bytes on the disk of one image's answers, with so many tokens of text."""
    cells = getattr(config.vision, "side", 0) ** 2 or config.vision.tokens
    states = config.vision.tokens + prompt + DRAFTED
    return 2 * (cells * config.vision.width + states * config.text.hidden_size) + 4 * config.vision.width


def belongs(folder: Path, mark: dict) -> bool:
    """Whether the answers in a folder, if there are any, are those of the policy that is marked so; marks an empty one."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MARK
    if path.exists():
        return path.read_text() == json.dumps(mark)
    write_whole(path, lambda part: part.write_text(json.dumps(mark)))
    return True


def save_whole(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """A file of tensors, of which only a whole one has this name. Raises BadInput where there is no room."""
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_whole(path, lambda part: save_file(contiguous, part, metadata))


def load_whole(path: Path, names: Sequence[str] | None = None) -> dict[str, Tensor]:
    """The tensors of a file, all or those with these names, in memory of their own. Raises BadInput for a damaged one."""
    try:
        with safe_open(path, framework="pt") as file:  # mapped only while it is copied, or its pages would stay
            return {name: file.get_tensor(name).clone() for name in (file.keys() if names is None else names)}
    except (SafetensorError, OSError) as error:
        episode = path.with_name(f"{path.name.partition('-')[0]}.npz")
        it = f"it and {episode.name}" if episode.exists() else "it"
        raise BadInput(f"{path} cannot be read ({error}): remove {it}, and give the same command again") from error


def _bytes(path: Path, names: Sequence[str]) -> list[int]:
    with safe_open(path, framework="pt") as file:
        slices = [file.get_slice(name) for name in names]
        return [
            int(np.prod(part.get_shape())) * (8 if part.get_dtype() == "I64" else 4 if "32" in part.get_dtype() else 2)
            for part in slices
        ]
