# SPDX-License-Identifier: Apache-2.0
"""`vla-sd train-head`: the draft head of a policy, from what the policy itself says to recorded images.

`vla-sd train` gives a policy a draft head that knows the demonstrations' actions. What a draft needs to know is the verifier's
greedy tokens, right or wrong: here the head goes on from where it is (or begins anew, where there is none) with those as its
targets, over vision features that are computed once. Its probabilities then tell how likely acceptance is.
"""
import argparse
import os
import sys
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.multiprocessing as multiprocessing
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from vla_sd_ros import inputs
from vla_sd_ros.decoding.autoregressive import Autoregressive
from vla_sd_ros.policy import checkpoint
from vla_sd_ros.policy.model import DraftHead
from vla_sd_ros.policy.vla import Vla
from vla_sd_ros.recordings import Episode, RecordingError, Skipped
from vla_sd_ros.recordings import command as recordings_command
from vla_sd_ros.training.data import check_held_out
from vla_sd_ros.training.loop import learning_rate

WARM_UP = 100  # steps
SOFT, SIGMA = 0.4, 2.0  # share of the targets that is spread over near bins, and how far [bins]: the head stays unsure in time
EVALUATE_EVERY = 500  # steps
NEAR = 9  # [bins], the published radius of relaxed acceptance


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of the command."""
    parser.add_argument("--checkpoint", default="libero", help="the policy: ./directory, or the name of a shipped one")
    parser.add_argument("--unnorm-key", default="", help="entry of dataset_statistics.json, where there are several")
    parser.add_argument("--demonstrations", type=inputs.path, nargs="+", default=[Path("demonstrations")],
                        help="recordings of any kind that build-db reads; searched below")
    parser.add_argument("--every", type=inputs.count, default=1, metavar="N", help="use each N-th image of an episode")
    parser.add_argument("--output", type=inputs.path, help=f"directory for {checkpoint.DRAFT_HEAD}; default: the policy's")
    parser.add_argument("--steps", type=inputs.count, default=8000)
    parser.add_argument("--batch-size", type=inputs.count, default=256)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--held-out", type=int, default=10, metavar="N", help="every N-th episode only measures")
    parser.add_argument("--seed", type=inputs.whole(0, 2**32 - 1), default=0)
    parser.add_argument("--processes", type=inputs.count, default=os.cpu_count())
    recordings_command.add_arguments(parser, failed=True)  # what the policy says is wanted, not what was done


@dataclass(frozen=True)
class Answers:
    """Of N images: cells (N, cells, width) half precision, text (N, text width), the policy's greedy bins (N, 7)."""

    cells: Tensor
    text: Tensor
    bins: Tensor

    def __getitem__(self, chosen) -> tuple[Tensor, Tensor, Tensor]:
        return self.cells[chosen].float(), self.text[chosen], self.bins[chosen]


def run(arguments: argparse.Namespace) -> int:
    """The command; returns its exit code."""
    try:
        directory = checkpoint.find(arguments.checkpoint)
        inputs.writable_folder(arguments.output or directory, "--output")
        recordings, inventory = recordings_command.take_stock(arguments, arguments.demonstrations)
        check_held_out(inventory.episodes, arguments.held_out)
        vla = checkpoint.load(directory, unnorm_key=arguments.unnorm_key, largest_step=None)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    asked, answers = partial(ask, directory, arguments.unnorm_key, arguments.every), []
    with multiprocessing.get_context("spawn").Pool(arguments.processes, torch.set_num_threads, (1,)) as pool:
        for found in tqdm(pool.imap(asked, recordings), "asking the policy", inventory.episodes, unit="episode"):
            recordings.skip(found.name, found.reason) if isinstance(found, Skipped) else answers.append(found)
    recordings_command.tell_skipped(recordings)
    try:
        check_held_out(len(answers), arguments.held_out)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    held_out = joined(answers[:: arguments.held_out])
    learnt = joined([answer for i, answer in enumerate(answers) if i % arguments.held_out])
    torch.set_num_threads(arguments.processes)
    torch.manual_seed(arguments.seed)
    head = vla.draft_head or DraftHead(vla.config.vision.width, vla.config.text.hidden_size)
    train(head.float().requires_grad_(True), learnt, held_out, arguments)
    checkpoint.save_weights((arguments.output or directory) / checkpoint.DRAFT_HEAD, head.state_dict())
    return 0


def ask(directory: Path, unnorm_key: str, every: int, episode: Episode) -> Answers | Skipped:
    """The policy's greedy answers to the images of one episode."""
    vla, answers = _policy(directory, unnorm_key), []
    decoder = Autoregressive(vla)
    try:
        for image in islice(episode.images, 0, None, every):
            if image is not None:
                prompt = vla.observe(image, episode.instruction)
                answers.append((prompt.cells.half(), prompt.text.float(), decoder.decide(image, episode.instruction).bins))
    except RecordingError as error:
        return Skipped(episode.name, str(error))
    if not answers:
        return Skipped(episode.name, "has no image")
    cells, text, bins = zip(*answers)
    return Answers(torch.cat(cells), torch.cat(text), torch.from_numpy(np.array(bins)))


_loaded: dict[tuple, Vla] = {}


def _policy(*key) -> Vla:
    """The policy, loaded once in a process."""
    if key not in _loaded:
        _loaded[key] = checkpoint.load(key[0], unnorm_key=key[1], threads=1, largest_step=None)
    return _loaded[key]


def joined(episodes: list[Answers]) -> Answers:
    """The answers of several episodes, one after the other."""
    return Answers(*(torch.cat([getattr(e, name) for e in episodes]) for name in ("cells", "text", "bins")))


def train(head: DraftHead, learnt: Answers, held_out: Answers, arguments: argparse.Namespace) -> None:
    """Minimise head_loss(); prints how near the head comes on the held-out episodes."""
    optimizer = torch.optim.AdamW(head.parameters(), weight_decay=arguments.weight_decay)
    generator = torch.Generator().manual_seed(arguments.seed)
    print(f"{len(learnt.bins)} images; before: {quality(head, held_out)}", flush=True)
    for step in range(arguments.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(arguments.learning_rate, step, arguments.steps, step, WARM_UP)
        cells, text, bins = learnt[torch.randint(len(learnt.bins), (arguments.batch_size,), generator=generator)]
        loss = head_loss(head(cells, text), bins)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if (step + 1) % EVALUATE_EVERY == 0 or step + 1 == arguments.steps:
            print(f"step {step + 1}/{arguments.steps} loss {loss.item():.3f}; held out: {quality(head, held_out)}", flush=True)


def head_loss(logits: Tensor, bins: Tensor) -> Tensor:
    """Mean cross-entropy of logits (B, 7, 256) to bins (B, 7), of which a share is spread over near bins; not the gripper's."""
    logs = logits.log_softmax(-1)
    near = F.softmax(-0.5 * ((torch.arange(logs.shape[-1]) - bins[:, :6, None]) / SIGMA) ** 2, -1)
    spread = (near * logs[:, :6]).sum() / bins.numel()
    exact = logs.gather(2, bins[..., None])[..., 0]
    return -(SOFT * spread + ((1 - SOFT) * exact[:, :6].sum() + exact[:, 6].sum()) / bins.numel())


@torch.inference_mode()
def quality(head: DraftHead, answers: Answers) -> str:
    """One line: cross-entropy, share of equal tokens, and of actions whose motion is within NEAR bins."""
    logits = torch.cat([head(*answers[part][:2]) for part in torch.arange(len(answers.bins)).split(256)])
    distance = (logits.argmax(-1) - answers.bins).abs()
    loss = F.cross_entropy(logits.flatten(0, 1), answers.bins.flatten())
    return (f"loss {loss:.3f}, equal tokens {(distance == 0).float().mean():.1%}, "
            f"motions within {NEAR} bins {(distance[:, :6] <= NEAR).all(1).float().mean():.1%}")
