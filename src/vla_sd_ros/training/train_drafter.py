# SPDX-License-Identifier: Apache-2.0
"""`vla-sd train-drafter`: the drafter of a policy, from what the policy itself says to recorded images; run again to resume.

First the policy decodes each image of the demonstrations greedily, and its hidden states are kept in files that all
processes map. From these the drafter learns, with the actual tokens before it (Spec-VLA, arXiv 2507.22424; EAGLE):
smooth L1 to the next hidden state, and a little cross-entropy to the tokens that the policy makes of it.
"""
import argparse
import copy
import csv
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.distributed as distributed
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from vla_sd_ros import inputs
from vla_sd_ros.policy import checkpoint
from vla_sd_ros.policy.draft import Draft, chain
from vla_sd_ros.policy.drafter import FILE, Budget, Drafter, DrafterModel
from vla_sd_ros.policy.vla import ACTION_TOKENS, Vla
from vla_sd_ros.recordings import Episode, RecordingError, Recordings
from vla_sd_ros.recordings import command as recordings_command
from vla_sd_ros.training.data import check_held_out
from vla_sd_ros.training.loop import (Log, average_gradients, check_processes, learning_rate, load_state, multiplies_bf16,
                                       save_state, spawn)

DRAFTED = ACTION_TOKENS - 1  # the first token is always the verifier's
EVALUATE_EVERY = 500  # steps
STATE = "state.pt"  # of an interrupted training


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of the command."""
    parser.add_argument("--checkpoint", default="libero", help="the policy: ./directory, or the name of a shipped one")
    parser.add_argument("--unnorm-key", default="", help="entry of dataset_statistics.json, where there are several")
    parser.add_argument("--demonstrations", type=inputs.path, nargs="+", default=[Path("demonstrations")],
                        help="recordings of any kind that build-db reads; searched below")
    parser.add_argument("--output", type=inputs.path, help=f"directory for {FILE}; default: the policy's")
    parser.add_argument("--steps", type=inputs.count, default=3000)
    parser.add_argument("--batch-size", type=inputs.count, default=64, help="over all processes")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="Spec-VLA, at 7 B parameters: 5e-5")
    parser.add_argument("--betas", type=float, nargs=2, default=[0.9, 0.95], help="of AdamW")
    parser.add_argument("--warm-up", type=inputs.count, default=200, help="steps; Spec-VLA: 2000")
    parser.add_argument("--noise", type=float, default=0.2, help="width of the uniform noise on the hidden states")
    parser.add_argument("--token-weight", type=float, default=0.1, help="of the cross-entropy beside the smooth L1 loss")
    parser.add_argument("--held-out", type=int, default=10, metavar="N", help="every N-th episode only measures")
    parser.add_argument("--evaluate", type=inputs.count, default=200, metavar="N",
                        help="images of held-out episodes to measure on")
    parser.add_argument("--seed", type=inputs.whole(0, 2**32 - 1), default=0)
    parser.add_argument("--processes", type=inputs.count, default=os.cpu_count())
    parser.add_argument("--device", default="cpu", help="cuda: with --processes 1")
    recordings_command.add_arguments(parser, failed=True)  # what the policy says is wanted, not what was done


def run(arguments: argparse.Namespace) -> int:
    """The command; returns its exit code."""
    try:
        check_processes(arguments.processes, arguments.batch_size)
        directory = checkpoint.find(arguments.checkpoint)
        recordings, inventory = recordings_command.take_stock(arguments, arguments.demonstrations)
        check_held_out(inventory.episodes, arguments.held_out)
        # Says what is wrong before any process starts. Units are nothing to a drafter.
        checkpoint.load(directory, arguments.device, arguments.unnorm_key, largest_step=None)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    output = arguments.output or directory
    work = inputs.writable_folder(output / "drafter_training", "--output")
    _forget_another_verifier(work, directory)
    try:
        load_state(work / STATE)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    recordings_command.tell_skipped(recordings)
    spawn(_train, (arguments, directory, output, work), arguments.processes)
    return 0


def _forget_another_verifier(work: Path, directory: Path) -> None:
    """Remove what was made with other weights of the policy."""
    digest = hashlib.sha256()
    for path in sorted(directory.glob("model*.safetensors")):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    mark = work / "verifier.sha256"
    if mark.exists() and mark.read_text() != digest.hexdigest():
        print("the policy has changed since its drafter was trained: beginning anew", flush=True)
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    mark.write_text(digest.hexdigest())


@dataclass(frozen=True)
class Decoded:
    """The verifier's greedy decoding of one episode of T images, all under one prompt of n tokens.

    states (2, T, n + 6, hidden) half precision, mapped: embeddings and last hidden states of the prompt and of the first
    six action tokens. bins (T, 7): all action tokens.
    """

    states: np.ndarray
    bins: np.ndarray

    def state(self, image: int) -> tuple[Tensor, Tensor]:
        """Embeddings and hidden states (n + 6, hidden) of one image."""
        embeddings, hidden = torch.from_numpy(self.states[:, image].astype(np.float32))
        return embeddings, hidden


def decode_episode(vla: Vla, images: Iterable[np.ndarray | None], instruction: str) -> Decoded:
    """Greedy decoding of images (H, W, 3), token by token. Raises RecordingError where they cannot be read or there is none."""
    states, actions = [], []
    for image in images:
        if image is None:
            continue
        prompt = vla.observe(image, instruction)
        out = vla.prefill(prompt)
        hidden, bins = [out.prompt], [*out.greedy()]
        while len(bins) < ACTION_TOKENS:
            out = vla.extend(chain(bins[-1:]))
            vla.keep([0])
            hidden.append(out.hidden)
            bins += [*out.greedy()]
        embeddings = torch.cat((prompt.embeddings, vla.action_embeddings[bins[:DRAFTED]]))
        states.append(torch.stack((embeddings, torch.cat(hidden))).half().cpu().numpy())
        actions.append(bins)
    if not states:
        raise RecordingError("has no image")
    return Decoded(np.stack(states, 1), np.array(actions))


def _decode_all(vla: Vla, recordings: Recordings, directory: Path, rank: int, processes: int) -> list[Decoded]:
    """Decode this process's share of the episodes whose files are missing; then open all."""
    directory.mkdir(exist_ok=True)
    files = []
    for number, episode in enumerate(tqdm(recordings, desc="decoding", unit="episode", disable=rank > 0)):
        files.append(directory / _name(episode))
        if number % processes == rank and not _done(files[-1]).exists():
            try:
                _keep(decode_episode(vla, episode.images, episode.instruction), files[-1])
            except RecordingError as error:
                print(f"skipped: {episode.name} {error}", flush=True)
    distributed.barrier()
    return [Decoded(np.load(file, mmap_mode="r"), np.load(_done(file))) for file in files if _done(file).exists()]


def _done(file: Path) -> Path:
    """The file of an episode's tokens, which is there only when that of its states is whole."""
    return file.with_suffix(".bins.npy")


def _keep(decoded: Decoded, file: Path) -> None:
    np.save(file, decoded.states)
    temporary = file.with_suffix(".tmp.npy")
    np.save(temporary, decoded.bins)
    temporary.rename(_done(file))


def _name(episode: Episode) -> str:
    """A file name that another or a changed episode does not have."""
    status = Path(episode.name.rsplit("#", 1)[0]).stat()  # of the file or folder that it lies in
    said = f"{Path(episode.name).resolve()} {status.st_size} {status.st_mtime_ns} {episode.instruction}".encode()
    return hashlib.sha256(said + episode.actions.tobytes()).hexdigest()[:16] + ".npy"


class Batches:
    """An endless stream of images, each as likely as any other."""

    def __init__(self, episodes: list[Decoded], size: int, seed):
        self._episodes, self._size = episodes, size
        self._images = [(e, i) for e, episode in enumerate(episodes) for i in range(len(episode.bins))]
        self._rng = np.random.default_rng(seed)

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings and hidden states (B, longest, hidden), padded on the right, and the prompts' lengths (B,)."""
        chosen = [self._images[i] for i in self._rng.integers(len(self._images), size=self._size)]
        embeddings, hidden = zip(*(self._episodes[e].state(i) for e, i in chosen))
        lengths = torch.tensor([len(states) - DRAFTED for states in hidden])
        pad = partial(nn.utils.rnn.pad_sequence, batch_first=True)  # on the right: causal attention never sees it
        return pad(embeddings), pad(hidden), lengths


def drafter_losses(
    predicted: Tensor, hidden: Tensor, lengths: Tensor, lm_head: Tensor, token_weight: float
) -> dict[str, Tensor]:
    """Losses on the six drafted positions of a batch; hidden, lengths as Batches.draw() gives them, lm_head (256, h).

    predicted (B, longest - 1, h): entry i stands for hidden state i + 1. Of the results, hidden is the smooth L1 to the
    verifier's hidden state, tokens the cross-entropy to its soft distribution, agreement the share of positions whose
    most likely token is the verifier's.
    """
    rows, positions = torch.arange(len(lengths))[:, None], lengths[:, None] - 1 + torch.arange(DRAFTED)
    predicted, target = predicted[rows, positions], hidden[rows, positions + 1]
    logits, target_logits = predicted @ lm_head.T, target @ lm_head.T
    regression = F.smooth_l1_loss(predicted, target)
    # the target's own entropy is subtracted, so that a perfect prediction costs nothing
    tokens = F.kl_div(logits.log_softmax(-1), target_logits.log_softmax(-1), log_target=True, reduction="sum")
    tokens = tokens / (len(lengths) * DRAFTED)
    return {
        "loss": regression + token_weight * tokens, "hidden": regression, "tokens": tokens,
        "agreement": (logits.argmax(-1) == target_logits.argmax(-1)).float().mean(),
    }


def verifications(drafter: Drafter, embeddings: Tensor, hidden: Tensor, bins: np.ndarray, budget: Budget) -> list[int]:
    """How many tokens each verification of one action decides under exact acceptance, the verifier's own among them.

    The last token needs no draft, as the logits that would judge one give it. The verifier's answers are known, so it does
    not run: embeddings and hidden (n + 6, h), bins (7,) as in Decoded.
    """
    prompt, root, decided = len(hidden) - DRAFTED, 0, []
    drafter.start(embeddings[:prompt], hidden[:prompt])
    while root < DRAFTED:
        draft = drafter.propose(int(bins[root]), DRAFTED - 1 - root, budget)
        count = 1 + agreed(draft, bins[root + 1 :])
        drafter.follow(bins[root : root + count], hidden[prompt + root : prompt + root + count])
        decided.append(count)
        root += count
    return decided


def agreed(draft: Draft, bins: np.ndarray) -> int:
    """How many of these tokens the draft has, one below the other from its root on."""
    node = -1
    for depth, token in enumerate(bins):
        children = np.flatnonzero((draft.parents == node) & (draft.bins == token))
        if not len(children):
            return depth
        node = children[0]
    return len(bins)


def accepted_length(model: DrafterModel, vla: Vla, episodes: list[Decoded], count: int) -> tuple[float, float]:
    """Mean number of tokens that a verification decides, and passes of the verifier for an action, on `count` images."""
    drafter, rng = Drafter(copy.deepcopy(model), vla), np.random.default_rng(0)
    images = [(e, i) for e, episode in enumerate(episodes) for i in range(len(episode.bins))]
    chosen = [images[i] for i in rng.permutation(len(images))[:count]]
    decided = []
    for e, i in chosen:
        embeddings, hidden = (state.to(vla.device, vla.lm_head.dtype) for state in episodes[e].state(i))
        decided.append(verifications(drafter, embeddings, hidden, episodes[e].bins[i], Budget()))
    return float(np.mean(np.concatenate(decided))), 1.0 + float(np.mean([len(lengths) for lengths in decided]))


# Longer than others: one loop over one state, whose parts would hand a dozen names to each other.
def _train(rank: int, arguments: argparse.Namespace, directory: Path, output: Path, work: Path) -> None:
    vla = checkpoint.load(directory, arguments.device, arguments.unnorm_key, largest_step=None)
    recordings = Recordings(arguments.demonstrations, recordings_command.options(arguments))
    decoded = _decode_all(vla, recordings, work / "decoded", rank, arguments.processes)
    check_held_out(len(decoded), arguments.held_out)
    held_out = decoded[:: arguments.held_out]
    learnt = [episode for i, episode in enumerate(decoded) if i % arguments.held_out]
    torch.manual_seed(arguments.seed)
    model = DrafterModel(vla.config.text).to(vla.device)
    optimizer = torch.optim.AdamW(model.parameters(), betas=tuple(arguments.betas))
    step, saved = 0, work / STATE
    if state := load_state(saved, vla.device):
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    seed = [arguments.seed, rank, step]
    batches = Batches(learnt, arguments.batch_size // arguments.processes, seed)
    generator = torch.Generator().manual_seed(int(np.random.default_rng(seed).integers(2**62)))
    lm_head = vla.lm_head.float()
    low_precision = torch.autocast(vla.device.type, torch.bfloat16, vla.device.type == "cuda" or multiplies_bf16())
    log = Log(work / "log.csv", ("loss", "hidden", "tokens", "agreement")) if rank == 0 else None
    last_saved = time.monotonic()

    while step < arguments.steps:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(arguments.learning_rate, step, arguments.steps, step, arguments.warm_up)
        embeddings, hidden, lengths = batches.draw()
        noise = arguments.noise * (torch.rand(hidden.shape, generator=generator) - 0.5)
        with low_precision:
            predicted = model(embeddings[:, 1:].to(vla.device), (hidden + noise)[:, :-1].to(vla.device))
        losses = drafter_losses(predicted.float(), hidden.to(vla.device), lengths, lm_head, arguments.token_weight)
        optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        average_gradients(model.parameters())
        optimizer.step()
        step += 1
        if log is None:
            continue
        log.add(step, arguments.steps, {name: value.item() for name, value in losses.items()}, arguments.batch_size)
        if time.monotonic() - last_saved > 120 or step == arguments.steps:
            save_state(saved, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step})
            checkpoint.save_weights(output / FILE, model.state_dict())
            last_saved = time.monotonic()
        if step % EVALUATE_EVERY == 0 or step == arguments.steps:
            length, passes = accepted_length(model, vla, held_out, arguments.evaluate)
            print(f"held out: {length:.2f} tokens a verification, {passes:.2f} passes an action", flush=True)
            with (work / "held_out.csv").open("a", newline="") as file:
                csv.writer(file).writerow([step, length, passes])
