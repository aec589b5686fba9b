# SPDX-License-Identifier: Apache-2.0
"""`vla-sd train-head`: the draft head of a policy, from what the policy itself says to recorded images; run again to resume.

`vla-sd train` gives a policy a draft head that knows the demonstrations' actions. What a draft needs to know is the verifier's
greedy tokens, right or wrong: here the head goes on from where it is (or begins anew, where there is none) with those as its
targets, over vision features that are computed once. Its probabilities then tell how likely acceptance is.

Where images of an episode follow each other (without --every), the head also learns to look ahead: what the policy says to the next
images, by this one. That is to the point as far as the recorded arm did what the policy says: record episodes that the policy itself
drives (`vla-sd collect --policy`, or its goals on the arm). With several GPUs or nodes:
`torchrun --nproc-per-node 4 -m vla_sd_ros.cli train-head --device cuda ...`.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vla_sd_ros import inputs
from vla_sd_ros.policy import checkpoint
from vla_sd_ros.policy.model import DraftHead
from vla_sd_ros.training import answers
from vla_sd_ros.training.asking import add_arguments as add_asking
from vla_sd_ros.training.asking import asked
from vla_sd_ros.training.loop import (
    Log,
    barrier,
    check_processes,
    join_launched,
    learning_rate,
    load_state,
    of_the_batch,
    on_this_host,
    own_rows,
    save_state,
    share,
    sum_gradients,
)

STATE = "head_state.pt"  # of an interrupted training
WARM_UP = 100  # steps
DROPOUT = 0.3  # of what the head gathers; without it, it knows a hundred episodes by heart and is too sure of new ones
# Share of each target that is spread over neighbouring bins, and how far [bins]: it keeps the head from growing overconfident.
SOFT, SIGMA = 0.4, 2.0
EVALUATE_EVERY = 500  # steps
SAVE_EVERY = 30.0  # s
# Error of the actions that the head is told of [bins]: what fused executes unverified is that far from what the policy says.
BLUR = 4.0
SPAN = 2 + DraftHead.REACH  # steps that in_order() tells of: the one before, the step itself, and those ahead
RADIUS = 9  # [bins], the published radius of relaxed acceptance
READ = ("cells", "bins", "steps", "before", "after")  # of the policy's answers


@dataclass(frozen=True, kw_only=True)
class Training:
    """How long, how much at a step and how fast the head learns. memory: bytes for the answers that are drawn from at once."""

    steps: int = 8000
    batch_size: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    seed: int = 0
    memory: int = answers.MEMORY * 1_000_000
    device: str = "cpu"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of the command."""
    add_asking(parser)
    parser.add_argument("--output", type=inputs.path, help=f"directory for {checkpoint.DRAFT_HEAD}; default: the policy's")
    parser.add_argument("--steps", type=inputs.count, default=Training.steps)
    parser.add_argument("--batch-size", type=inputs.count, default=Training.batch_size)
    parser.add_argument("--learning-rate", type=inputs.RATE, default=Training.learning_rate)
    parser.add_argument("--weight-decay", type=inputs.number(0.0, 10.0), default=Training.weight_decay)
    parser.add_argument("--seed", type=inputs.SEED, default=0)


def run(arguments: argparse.Namespace) -> int:
    """The command; returns its exit code."""
    arguments.device = join_launched(arguments.device)
    check_processes(share()[1], arguments.batch_size)
    directory = checkpoint.find(arguments.checkpoint)
    output = arguments.output or directory
    training = Training(
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        weight_decay=arguments.weight_decay,
        seed=arguments.seed,
        memory=arguments.memory * 1_000_000 // on_this_host(),
        device=arguments.device,
    )
    work, learnt, apart = asked(arguments, output)
    train(directory, work, learnt, apart, output / checkpoint.DRAFT_HEAD, training)
    return 0


def train(
    source: str | Path, work: Path, learnt: list[answers.Answered], apart: list[answers.Answered], output: Path, how: Training
) -> None:
    """Minimise loss_of() over what the policy `source` answered; prints how near the head comes on what was held apart.

    work: holds the answers, the log, and the state of a training that was interrupted. output: the file of the head.
    """
    first, shards = share()[0] == 0, answers.shards_of(learnt)
    torch.manual_seed(how.seed)
    follow = any(followed(in_order(shard)).any() for shard in answers.each(shards, ("bins", "steps")))
    head = _begun(source, follow).to(how.device).requires_grad_(True)
    optimizer = torch.optim.AdamW(head.parameters(), weight_decay=how.weight_decay)
    saved, measured = work / STATE, answers.shards_of(apart)
    step = _restored(head, optimizer, saved, how.device)
    window = answers.Window(shards, READ, how.memory, how.seed)
    if first:
        print(f"{sum(episode.images() for episode in learnt)} images; before: {quality(head, measured)}", flush=True)
    log, last_saved = Log(work / "head_log.csv", ("loss",)) if first else None, time.monotonic()
    while step < how.steps:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(how.learning_rate, step, how.steps, step, WARM_UP)
        loss = _loss_at(head, window, step, how)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        sum_gradients(head.parameters())
        optimizer.step()
        step += 1
        told = of_the_batch({"loss": loss})
        if log is None:
            continue
        log.add(step, how.steps, told, how.batch_size)
        if step % EVALUATE_EVERY == 0 or step == how.steps:
            print(f"step {step}/{how.steps} held out: {quality(head, measured)}", flush=True)
        if time.monotonic() - last_saved > SAVE_EVERY:
            save_state(saved, {"head": head.state_dict(), "optimizer": optimizer.state_dict(), "step": step})
            last_saved = time.monotonic()
    if first:
        answers.write_whole(output, lambda path: checkpoint.save_weights(path, head.state_dict()))
        saved.unlink(missing_ok=True)


def _restored(head: DraftHead, optimizer: torch.optim.Optimizer, saved: Path, device: str) -> int:
    """Goes on from the state of a training that was interrupted, if there is one that fits; the step to go on with."""
    step = 0
    if (state := load_state(saved, device)) and state["head"].keys() == head.state_dict().keys():
        head.load_state_dict(state["head"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    barrier()  # before the first process writes another state
    return step


def _loss_at(head: DraftHead, window: answers.Window, step: int, how: Training) -> Tensor:
    """The part of a batch's loss that is that of this process's rows. What is left out of what the head gathers, and by what the
    actions before are off, depends on the step and the row alone: it is the same after an interruption, and however many processes
    share the batch."""
    rows, own = window.draw(step, how.batch_size), own_rows(how.batch_size)
    following = int(followed(torch.stack([_about(shard)[0][i] for shard, i in rows])).sum())
    cells, text, bins = _batch(rows[own], how.device)
    generator = torch.Generator(how.device).manual_seed(how.seed + step)
    size = (2, how.batch_size, head.fc1.in_features)
    stays = (torch.rand(size, generator=generator, device=how.device) >= DROPOUT)[:, own] / (1 - DROPOUT)
    off = torch.randn((how.batch_size, SPAN, 7), generator=generator, device=how.device)[own] * BLUR
    return loss_of(head, cells, text, bins, stays=stays, off=off, of=(how.batch_size, following))


def _begun(source: str | Path, looks_ahead: bool) -> DraftHead:
    """The policy's head as far as it has one, the rest new."""
    config = checkpoint.shape_of(source)
    head = DraftHead(config.vision.width, config.text.hidden_size, looks_ahead)
    if old := checkpoint.draft_head(source, config):
        head.load_state_dict({**head.state_dict(), **{n: v for n, v in old.state_dict().items() if n in head.state_dict()}})
    return head


def in_order(shard: dict[str, Tensor]) -> Tensor:
    """Bins (n, SPAN, 7) of the step before each of a shard, of the step itself, and of those after it; -1 where the shard does not
    have it."""
    bins, steps = shard["bins"], shard["steps"]
    found = torch.full((len(bins), SPAN, 7), -1, dtype=bins.dtype)
    for place in range(SPAN):
        by = place - 1
        rows = torch.arange(len(bins))[max(0, -by) : max(0, len(bins) - max(0, by))]
        rows = rows[steps[rows + by] == steps[rows] + by]
        found[rows, place] = bins[rows + by]
    return found


def followed(bins: Tensor) -> Tensor:
    """Of which steps ahead (n, REACH) rows of in_order() know the action and the two before it."""
    return (bins >= 0).all(-1).unfold(1, 3, 1).all(-1)


def _about(shard: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """in_order() of a shard and its text, kept with it: rows are drawn from it many times."""
    if "in_order" not in shard:
        shard |= {"in_order": in_order(shard), "text": answers.text_of(shard)}
    return shard["in_order"], shard["text"]


def _batch(rows: list[tuple[dict[str, Tensor], int]], device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Cells (B, cells, width), text (B, h) and bins (B, SPAN, 7), as in in_order(), of rows of shards."""
    columns = zip(*((shard["cells"][i], _about(shard)[1], _about(shard)[0][i]) for shard, i in rows))
    cells, texts, bins = (torch.stack(column).to(device) for column in columns)
    return cells.float(), texts, bins


def loss_of(
    head: DraftHead,
    cells: Tensor,
    text: Tensor,
    bins: Tensor,
    *,
    stays: Tensor | None = None,
    off: Tensor | None = None,
    of: tuple[int, int] | None = None,
) -> Tensor:
    """Of rows as _batch() gives them: of this step, and of the next ones where the head looks ahead.

    stays (2, B, gathered): by what each number of what was gathered is multiplied, for each of the two. off (B, SPAN, 7): added to
    the actions that it is told of [bins]. of: how many rows the whole batch has, and of how many steps these know what went before,
    where they are a part of it.
    """
    gathered, follows = head.gather(cells, text), followed(bins)
    now, ahead = gathered * stays if stays is not None else (gathered, gathered)
    rows, following = of or (len(bins), int(follows.sum()))
    loss = head_loss(head.now(now), bins[:, 1], rows)
    if head.looks_ahead and following:
        _, logits, said = _ahead(head, ahead, bins, off)
        loss = loss + DraftHead.REACH * head_loss(logits, said, following)
    return loss


def _ahead(head: DraftHead, gathered: Tensor, bins: Tensor, off: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """How many steps ahead (m,), logits (m, 7, 256) and bins (m, 7) of all that rows of in_order() know."""
    row, place = followed(bins).nonzero(as_tuple=True)
    executed = torch.stack((bins[row, place], bins[row, place + 1]), 1).float()
    if off is not None:
        executed[..., :6] += torch.stack((off[row, place], off[row, place + 1]), 1)[..., :6]
    return place + 1, head.ahead(gathered[row], executed, place + 1), bins[row, place + 2]


def head_loss(logits: Tensor, bins: Tensor, rows: int) -> Tensor:
    """Cross-entropy of logits (B, 7, 256) to bins (B, 7), of which a share is spread over near bins; not the gripper's. Its mean over
    so many rows, of which these are all or a part."""
    logs = logits.log_softmax(-1)
    distance = torch.arange(logs.shape[-1], device=logs.device) - bins[:, :6, None]
    near, count = F.softmax(-0.5 * (distance / SIGMA) ** 2, -1), rows * bins.shape[1]
    spread = (near * logs[:, :6]).sum() / count
    exact = logs.gather(2, bins[..., None])[..., 0]
    return -(SOFT * spread + ((1 - SOFT) * exact[:, :6].sum() + exact[:, 6].sum()) / count)


@torch.inference_mode()
def quality(head: DraftHead, shards: list[Path]) -> str:
    """One line: cross-entropy, share of equal tokens, and of actions whose motion is within RADIUS bins; where the head looks ahead,
    also for each number of steps ahead."""
    device, now = next(head.parameters()).device, []
    ahead: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(DraftHead.REACH)]
    for shard in answers.each(shards, READ):
        cells, bins = shard["cells"].to(device).float(), in_order(shard).to(device)
        gathered = head.gather(cells, answers.text_of(shard).to(device).expand(len(bins), -1))
        now.append((head.now(gathered), bins[:, 1]))
        if head.looks_ahead and followed(bins).any():
            by, logits, said = _ahead(head, gathered, bins)
            for steps, found in enumerate(ahead, 1):
                found.append((logits[by == steps], said[by == steps]))
    told = "".join(f"; {steps} ahead: {_told(found)}" for steps, found in enumerate(ahead, 1) if found)
    return _told(now) + told


def _told(answered: list[tuple[Tensor, Tensor]]) -> str:
    """Of logits (n, 7, 256) and bins (n, 7)."""
    logits, bins = (torch.cat(column) for column in zip(*answered))
    loss, distance = F.cross_entropy(logits.flatten(0, 1), bins.flatten()), (logits.argmax(-1) - bins).abs()
    return (
        f"loss {loss:.3f}, equal tokens {(distance == 0).float().mean():.1%}, "
        f"motions within {RADIUS} bins {(distance[:, :6] <= RADIUS).all(1).float().mean():.1%}"
    )
