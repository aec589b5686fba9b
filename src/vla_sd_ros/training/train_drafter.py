# SPDX-License-Identifier: Apache-2.0
"""`vla-sd train-drafter`: the drafter of a policy, from what the policy itself says to recorded images; run again to resume.

First the policy decodes each image greedily, and its hidden states are kept in shards (training/answers.py). From these the
drafter learns, with the actual tokens before it (Spec-VLA, arXiv 2507.22424; EAGLE): smooth L1 to the next hidden state, and a
little cross-entropy to the tokens that the policy makes of it. The policy itself is in no memory then. With several GPUs:
`torchrun --nproc-per-node 4 -m vla_sd_ros.cli train-drafter --device cuda ...`.
"""

import argparse
import copy
import csv
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_sd_ros import inputs
from vla_sd_ros.policy import checkpoint
from vla_sd_ros.policy.draft import Draft
from vla_sd_ros.policy.drafter import FILE, Budget, Drafter, DrafterModel
from vla_sd_ros.training import answers
from vla_sd_ros.training.answers import DRAFTED, Answered, Ends
from vla_sd_ros.training.asking import add_arguments as add_asking
from vla_sd_ros.training.asking import asked
from vla_sd_ros.training.loop import (
    Log,
    barrier,
    check_processes,
    join_launched,
    launched,
    learning_rate,
    load_state,
    multiplies_bf16,
    of_the_batch,
    on_this_host,
    own_rows,
    save_state,
    share,
    spawn,
    sum_gradients,
)

EVALUATE_EVERY = 500  # steps
SAVE_EVERY = 120.0  # s
STATE = "drafter_state.pt"  # of an interrupted training
READ = ("cells", "hidden", "bins", "before", "after")  # of the policy's answers


@dataclass(frozen=True, kw_only=True)
class Training:
    """How long, how much at a step and how fast the drafter learns; Spec-VLA's values but for the learning rate and its warm-up.

    batch_size: over all processes. noise: width of the uniform noise on the hidden states. token_weight: of the cross-entropy
    beside the smooth L1 loss. evaluate: images of held-out episodes to measure on. memory: bytes for the answers that are drawn
    from at once, of each process.
    """

    steps: int = 3000
    batch_size: int = 64
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    warm_up: int = 200
    noise: float = 0.2
    token_weight: float = 0.1
    evaluate: int = 200
    seed: int = 0
    memory: int = answers.MEMORY * 1_000_000
    device: str = "cpu"
    processes: int = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of the command."""
    add_asking(parser)
    parser.add_argument("--output", type=inputs.path, help=f"directory for {FILE}; default: the policy's")
    parser.add_argument("--steps", type=inputs.count, default=Training.steps)
    parser.add_argument("--batch-size", type=inputs.count, default=Training.batch_size, help="over all processes")
    parser.add_argument(
        "--learning-rate", type=inputs.RATE, default=Training.learning_rate, help="Spec-VLA, at 7 B parameters: 5e-5"
    )
    parser.add_argument("--betas", type=inputs.number(0.0, 0.999999), nargs=2, default=Training.betas, help="of AdamW")
    parser.add_argument("--warm-up", type=inputs.count, default=Training.warm_up, help="steps; Spec-VLA: 2000")
    parser.add_argument(
        "--noise", type=inputs.number(0.0, 100.0), default=Training.noise, help="width of the uniform noise on the hidden states"
    )
    parser.add_argument(
        "--token-weight",
        type=inputs.number(0.0, 1000.0),
        default=Training.token_weight,
        help="of the cross-entropy beside the smooth L1 loss",
    )
    parser.add_argument(
        "--evaluate", type=inputs.count, default=Training.evaluate, metavar="N", help="images of held-out episodes to measure on"
    )
    parser.add_argument("--seed", type=inputs.SEED, default=0)
    parser.add_argument("--processes", type=inputs.count, default=os.cpu_count(), help="to learn, on the CPU")


def run(arguments: argparse.Namespace) -> int:
    """The command; returns its exit code."""
    processes = arguments.processes if arguments.device == "cpu" else 1
    arguments.device = join_launched(arguments.device)
    check_processes(max(processes, share()[1]), arguments.batch_size)
    directory = checkpoint.find(arguments.checkpoint)
    output = arguments.output or directory
    how = Training(
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        betas=tuple(arguments.betas),
        warm_up=arguments.warm_up,
        noise=arguments.noise,
        token_weight=arguments.token_weight,
        evaluate=arguments.evaluate,
        seed=arguments.seed,
        memory=arguments.memory * 1_000_000 // (on_this_host() if launched() else processes),
        device=arguments.device,
        processes=processes,
    )
    work, learnt, apart = asked(arguments, output)
    train(directory, work, learnt, apart, output / FILE, how)
    return 0


def batch(ends: Ends, rows: Sequence[tuple[dict[str, Tensor], int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings and hidden states (B, longest, h) of rows of shards, padded on the right, and the prompts' lengths (B,)."""
    hidden = [shard["hidden"][i].to(ends.device, ends.lm_head.dtype) for shard, i in rows]
    lengths = torch.tensor([len(states) - DRAFTED for states in hidden])
    pad = partial(nn.utils.rnn.pad_sequence, batch_first=True)  # on the right: causal attention never sees it
    return pad(ends.embeddings(rows)), pad(hidden), lengths


def drafter_losses(predicted: Tensor, hidden: Tensor, lengths: Tensor, lm_head: Tensor, token_weight: float) -> dict[str, Tensor]:
    """Losses on the six drafted positions of a batch; hidden, lengths as batch() gives them, lm_head (256, h).

    predicted (B, longest - 1, h): entry i stands for hidden state i + 1. Of the results, hidden is the smooth L1 to the
    verifier's hidden state, tokens the cross-entropy to its soft distribution, agreement the share of positions whose
    most likely token is the verifier's.
    """
    device = predicted.device
    rows = torch.arange(len(lengths), device=device)[:, None]
    positions = lengths.to(device)[:, None] - 1 + torch.arange(DRAFTED, device=device)
    predicted, target = predicted[rows, positions], hidden[rows, positions + 1]
    logits, target_logits = predicted @ lm_head.T, target @ lm_head.T
    regression = F.smooth_l1_loss(predicted, target)
    # the target's own entropy is subtracted, so that a perfect prediction costs nothing
    tokens = F.kl_div(logits.log_softmax(-1), target_logits.log_softmax(-1), log_target=True, reduction="sum")
    tokens = tokens / (len(lengths) * DRAFTED)
    return {
        "loss": regression + token_weight * tokens,
        "hidden": regression,
        "tokens": tokens,
        "agreement": (logits.argmax(-1) == target_logits.argmax(-1)).float().mean(),
    }


def verifications(drafter: Drafter, embeddings: Tensor, hidden: Tensor, bins: np.ndarray, budget: Budget) -> list[int]:
    """How many tokens each verification of one action decides under exact acceptance, the verifier's own among them.

    The last token needs no draft, as the logits that would judge one give it. The verifier's answers are known, so it does
    not run: embeddings and hidden (n + 6, h), bins (7,) as the answers have them.
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


def accepted_length(model: DrafterModel, ends: Ends, episodes: Sequence[Answered], count: int) -> tuple[float, float]:
    """Mean number of tokens that a verification decides, and passes of the verifier for an action, on `count` images."""
    drafter, rng = Drafter(copy.deepcopy(model), ends), np.random.default_rng(0)
    images = [(path, i) for episode in episodes for path, rows in episode.shards for i in range(rows)]
    chosen: dict[Path, list[int]] = {}
    for k in rng.permutation(len(images))[:count]:
        chosen.setdefault(images[k][0], []).append(images[k][1])
    decided = []
    for path, rows in chosen.items():
        shard = answers.load_whole(path, READ)
        for i in rows:
            (embeddings,), hidden = ends.embeddings([(shard, i)]), shard["hidden"][i].to(ends.device, ends.lm_head.dtype)
            decided.append(verifications(drafter, embeddings, hidden, shard["bins"][i].numpy(), Budget()))
    return float(np.mean(np.concatenate(decided))), 1.0 + float(np.mean([len(lengths) for lengths in decided]))


def train(source: str | Path, work: Path, learnt: list[Answered], apart: list[Answered], output: Path, how: Training) -> None:
    """Minimise drafter_losses() over what the policy `source` answered; measures on what was held apart.

    work: holds the answers, the log, and the state of a training that was interrupted. output: the file of the drafter.
    """
    load_state(work / STATE)  # says what is wrong before any process starts
    spawn(_train, (source, work, learnt, apart, output, how), how.processes)


def _train(
    rank: int, source: str | Path, work: Path, learnt: list[Answered], apart: list[Answered], output: Path, how: Training
) -> None:
    ends = Ends.load(work, source, how.device)
    torch.manual_seed(how.seed)
    model = DrafterModel(ends.config.text).to(ends.device)
    optimizer = torch.optim.AdamW(model.parameters(), betas=how.betas)
    saved, last_saved = work / STATE, time.monotonic()
    step = _restored(model, optimizer, saved, ends.device)
    window, own = answers.Window(answers.shards_of(learnt), READ, how.memory, how.seed), own_rows(how.batch_size)
    lm_head = ends.lm_head.float()
    low_precision = torch.autocast(ends.device.type, torch.bfloat16, ends.device.type == "cuda" or multiplies_bf16())
    log = Log(work / "drafter_log.csv", ("loss", "hidden", "tokens", "agreement")) if rank == 0 else None

    while step < how.steps:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(how.learning_rate, step, how.steps, step, how.warm_up)
        embeddings, hidden, lengths = batch(ends, window.draw(step, how.batch_size)[own])
        hidden = hidden.float()
        with low_precision:
            predicted = model(embeddings[:, 1:].float(), (hidden + _noise(hidden, lengths, how, own.start, step))[:, :-1])
        losses = drafter_losses(predicted.float(), hidden, lengths, lm_head, how.token_weight)
        losses = {name: value * (len(lengths) / how.batch_size) for name, value in losses.items()}
        optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        sum_gradients(model.parameters())
        optimizer.step()
        step += 1
        told = of_the_batch(losses)
        if log is None:
            continue
        log.add(step, how.steps, told, how.batch_size)
        if time.monotonic() - last_saved > SAVE_EVERY or step == how.steps:
            save_state(saved, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step})
            last_saved = time.monotonic()
        if step % EVALUATE_EVERY == 0 or step == how.steps:
            _note_measured(step, *accepted_length(model, ends, apart, how.evaluate), work / "drafter_held_out.csv")
    if rank == 0:
        answers.write_whole(output, lambda path: checkpoint.save_weights(path, model.state_dict()))


def _restored(model: DrafterModel, optimizer: torch.optim.Optimizer, saved: Path, device: torch.device) -> int:
    """Goes on from the state of a training that was interrupted, if there is one; the step to go on with."""
    step = 0
    if state := load_state(saved, device):
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    barrier()  # before the first process writes another state
    return step


def _note_measured(step: int, length: float, passes: float, table: Path) -> None:
    """Tell and note what accepted_length() has found on the recordings that were held apart."""
    print(f"held out: {length:.2f} tokens a verification, {passes:.2f} passes an action", flush=True)
    with table.open("a", newline="") as file:
        csv.writer(file).writerow([step, length, passes])


def _noise(hidden: Tensor, lengths: Tensor, how: Training, first: int, step: int) -> Tensor:
    """Uniform noise on hidden states (B, longest, h), 0 on their padding. Each row's depends on the step and its number in the batch
    of all processes, the first one's here being `first`: it is the same after an interruption, and whoever computes the row."""
    noise, generator = torch.zeros_like(hidden), torch.Generator(hidden.device)
    for i, length in enumerate(lengths.tolist()):
        generator.manual_seed(int(np.random.default_rng([how.seed, first + i, step, 1]).integers(2**62)))
        own = noise[i, : length + DRAFTED]
        own.copy_(torch.rand(own.shape, generator=generator, device=hidden.device) - 0.5)
    return how.noise * noise
