# SPDX-License-Identifier: Apache-2.0
"""`vla-sd train`: the embedded policy from demonstrations; run again to resume.

Two stages in one schedule: first the vision tower alone learns where the things are that a sentence names, through the
auxiliary head, which is cheap; then the whole model learns actions, and its language model says at the prompt's end where
they are. Each image is asked about several times, with other sentences: it is looked at once, and the language model reads the
sentences side by side behind it, none of which sees another. With several GPUs or nodes:
`torchrun --nproc-per-node 4 -m vla_sd_ros.cli train --device cuda ...`.
"""

import argparse
import copy
import csv
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from vla_sd_ros import inputs, instructions
from vla_sd_ros.policy import checkpoint
from vla_sd_ros.policy.actions import BINS, ActionStatistics, choose_statistics, read_statistics
from vla_sd_ros.policy.config import VlaConfig
from vla_sd_ros.policy.model import VlaModel
from vla_sd_ros.policy.preprocessing import normalise_pixels
from vla_sd_ros.policy.prompt import prompt_ids, read_tokenizer, word_tokenizer
from vla_sd_ros.training.data import Batch, Batches, Frames, open_frames, pack, vary_colours
from vla_sd_ros.training.loop import (
    Log,
    barrier,
    check_processes,
    join_launched,
    learning_rate,
    load_state,
    of_the_batch,
    own_rows,
    quick_passes,
    save_state,
    share,
    spawn,
    sum_gradients,
)
from vla_sd_ros.training.losses import AuxiliaryHead, Guide, action_loss, auxiliary_loss, pointing_loss
from vla_sd_ros.training.muon import Muon

EMA_DECAY = 0.998
AUXILIARY_WEIGHT = 0.3
POINTING_WEIGHT = 1.0
WARM_UP = 100  # steps
KEPT_PROMPTS = 8192  # sentences whose tokens are kept
STATISTICS_KEY = "libero_5hz"
STATE = "state.pt"  # of an interrupted training


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of the command."""
    parser.add_argument("--demonstrations", type=inputs.path, nargs="+", default=[Path("demonstrations")])
    parser.add_argument("--output", type=inputs.path, default=Path("checkpoints/libero"), help="checkpoint directory to write")
    parser.add_argument("--vision-steps", type=inputs.whole(0, 10**9), default=1500, help="steps of the vision tower alone")
    parser.add_argument("--steps", type=inputs.count, default=4000, help="steps of the whole model after that")
    parser.add_argument("--batch-size", type=inputs.count, default=64, help="over all processes")
    parser.add_argument("--learning-rate", type=inputs.RATE, default=2e-3)
    parser.add_argument("--seed", type=inputs.SEED, default=0)
    parser.add_argument("--device", default="cpu", help="torch device: cpu, cuda, cuda:1; under torchrun that of each process")
    parser.add_argument("--processes", type=inputs.count, default=os.cpu_count(), help="on the CPU, without torchrun")
    parser.add_argument("--start-from", help="checkpoint whose weights to begin with: ./directory, or a shipped one")
    parser.add_argument("--repack", action="store_true", help="read the demonstrations again")
    parser.add_argument(
        "--evaluate", type=inputs.whole(0, 10**9), default=1, metavar="N", help="closed-loop episodes per task at the end"
    )


def run(arguments: argparse.Namespace) -> int:
    """The command; returns its exit code."""
    work = arguments.output / "training"
    processes = arguments.processes if arguments.device == "cpu" else 1
    try:
        arguments.device = join_launched(arguments.device)
        check_processes(max(processes, share()[1]), arguments.batch_size)
        if arguments.start_from:
            arguments.start_from = checkpoint.find(arguments.start_from)
        inputs.writable_folder(work, "--output")
        if share()[0] == 0 and (arguments.repack or not (work / "meta.json").exists()):
            pack(arguments.demonstrations, work)
        load_state(work / STATE)  # says what is wrong before any process starts
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    barrier()  # the first process has packed
    spawn(_train, (arguments, work), processes)
    if arguments.evaluate and share()[0] == 0:
        _evaluate(arguments, work)
    return 0


@dataclass
class Trainee:
    """Everything that a resumed run needs. average: the moving average of the three models."""

    model: VlaModel
    head: AuxiliaryHead
    guide: Guide
    average: nn.ModuleList
    optimizers: list[torch.optim.Optimizer]
    step: int = 0

    def live(self) -> nn.ModuleList:
        """What is trained, as one module."""
        return nn.ModuleList([self.model, self.head, self.guide])

    def state(self) -> dict:
        """All that is needed to go on later."""
        return {
            "live": self.live().state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
        }

    def restore(self, state: dict) -> None:
        """Go on from a state()."""
        self.live().load_state_dict(state["live"])
        self.average.load_state_dict(state["average"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"]):
            optimizer.load_state_dict(saved)
        self.step = state["step"]


def _train(rank: int, arguments: argparse.Namespace, work: Path) -> None:
    frames = open_frames(work)
    statistics = _statistics(arguments, frames)
    tokenizer = word_tokenizer(known_sentences([sentence for same in frames.sentences for sentence in same]))
    device = arguments.device
    trainee = _new_trainee(arguments, tokenizer, len(frames.sentences))
    saved = work / STATE
    if state := load_state(saved, device):
        trainee.restore(state)
    barrier()  # before the first process writes another state
    ids = lru_cache(KEPT_PROMPTS)(lambda sentence: torch.tensor(prompt_ids(tokenizer, sentence, None), device=device))
    seed = [arguments.seed, 0, trainee.step]
    own, size = own_rows(arguments.batch_size), arguments.batch_size
    batches = Batches(frames, statistics, size, seed, own=own)
    generator = torch.Generator().manual_seed(int(np.random.default_rng(seed).integers(2**62)))
    log = Log(work / "log.csv", ("loss", "auxiliary", "cells", "direct", "action", "tokens", "located")) if rank == 0 else None
    total = arguments.vision_steps + arguments.steps
    last_saved = time.monotonic()

    while trainee.step < total:
        whole = trainee.step >= arguments.vision_steps
        _set_learning_rate(trainee, arguments)
        batch = batches.draw()
        pixels = vary_colours(normalise_pixels(batch.images, trainee.model.config), generator, size, own).to(device)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        with quick_passes(device), torch.device(device):
            losses = compute_losses(trainee, pixels, batch.to(device), ids, whole)
        losses = {name: value * (len(pixels) / size) for name, value in losses.items()}
        _step(trainee, losses["loss"])
        _update_average(trainee, arguments)
        told = of_the_batch(losses)
        if log:
            log.add(trainee.step, total, told, size)
            if time.monotonic() - last_saved > 120 or trainee.step == total:
                save_state(saved, trainee.state())
                _write_checkpoint(arguments.output, trainee.average, tokenizer, statistics, frames)
                last_saved = time.monotonic()


def _step(trainee: Trainee, loss: Tensor) -> None:
    """One step of the optimizers, the same in all processes. loss: of this one's rows, as a part of that of the batch."""
    for optimizer in trainee.optimizers:
        optimizer.zero_grad(set_to_none=True)
    loss.backward()
    sum_gradients(trainee.live().parameters())
    for optimizer in trainee.optimizers:
        optimizer.step()
    trainee.step += 1


def _write_checkpoint(
    folder: Path, average: nn.ModuleList, tokenizer: Tokenizer, statistics: ActionStatistics, frames: Frames
) -> None:
    """The moving average (of model, head and guide), which is what is used, and the sentences that it knows."""
    model, head = cast(VlaModel, average[0]), cast(AuxiliaryHead, average[1])
    checkpoint.save(folder, model, tokenizer, STATISTICS_KEY, statistics, head.draft_head())
    instructions.write(folder, [own for own, *_ in frames.sentences])


def _statistics(arguments: argparse.Namespace, frames: Frames) -> ActionStatistics:
    """Those that the weights were trained with, where there are any: other ones would give every bin another meaning."""
    for directory in filter(None, (arguments.output, arguments.start_from)):
        if (directory / checkpoint.STATISTICS).exists():
            known = read_statistics(directory / checkpoint.STATISTICS)
            return known[choose_statistics(known, STATISTICS_KEY)]
    return frames.statistics()


def compute_losses(trainee: Trainee, pixels: Tensor, batch: Batch, ids: Callable[[str], Tensor], whole: bool) -> dict[str, Tensor]:
    """Losses of a batch in full precision. pixels (B, 3, H, W), normalised. ids: prompt tokens (n,) of each sentence.

    whole: the language model too, not the vision tower alone.
    """
    model = trainee.model
    features = model.vision_backbone(pixels)
    prompts = [[ids(sentence) for sentence in asked] for asked in batch.instructions]
    text = torch.stack([model.text_embeddings(prompt).mean(0) for asked in prompts for prompt in asked])
    seen = features.repeat_interleave(len(prompts[0]), dim=0)
    geometry, direct = (output.float() for output in trainee.head(seen, text))
    losses = {
        "auxiliary": auxiliary_loss(geometry, batch),
        "direct": action_loss(direct, batch),
        "cells": pointing_loss(trainee.guide.cells(batch.jobs, seen).float(), batch),
    }
    vision = losses["auxiliary"] + POINTING_WEIGHT * losses["cells"] + 0.3 * losses["direct"]
    if not whole:
        return {"loss": vision, **losses}
    tokens = model.projector(features)
    hidden, looked = action_states(model, tokens, prompts, batch.prefix)
    losses["action"] = action_loss((hidden @ model.action_weight().T).float(), batch)
    losses["tokens"] = pointing_loss(looked.float(), batch)
    losses["located"] = auxiliary_loss(trainee.guide.located(hidden[:, 0]).float(), batch)
    guide = losses["located"] + POINTING_WEIGHT * losses["tokens"]
    return {"loss": losses["action"] + AUXILIARY_WEIGHT * (vision + guide), **losses}


def action_states(model: VlaModel, image: Tensor, prompts: list[list[Tensor]], bins: Tensor) -> tuple[Tensor, Tensor]:
    """Last hidden states (B * Q, 7, hidden) that the action's tokens are read from, under teacher forcing; and how two heads of
    the middle layer look from there at the image's tokens: scores (B * Q, 7, 2, image tokens).

    image (B, image tokens, hidden); prompts: Q for each image; bins (B * Q, 7). BOS and the image come once, all the image's
    sentences behind them, each with its action; every sentence has the place of the first one and sees none of the others.
    """
    images, questions = len(prompts), len(prompts[0])
    tokens = model.config.action_end - 1 - bins[:, :6]
    flat = [prompt for asked in prompts for prompt in asked]
    texts = [torch.cat((prompt[1:], row)) for prompt, row in zip(flat, tokens)]
    padded = nn.utils.rnn.pad_sequence(texts, batch_first=True)  # on the right: causal attention never sees it
    first = model.text_embeddings(flat[0][:1]).expand(images, 1, -1)
    asked = model.text_embeddings(padded).unflatten(0, (images, questions)).flatten(1, 2)
    embeddings = torch.cat((first, image, asked), dim=1)
    shared, length = 1 + model.config.vision.tokens, padded.shape[1]
    mask, positions = side_by_side(shared, length, questions)
    states = model.language_model.model(
        inputs_embeds=embeddings,
        use_cache=False,
        attention_mask=mask.expand(images, 1, -1, -1),
        position_ids=positions,
        output_hidden_states=True,
    ).hidden_states
    ends = torch.tensor([len(prompt) - 2 for prompt in flat])  # BOS is not among them
    rows, asking = torch.arange(len(flat))[:, None], ends[:, None] + torch.arange(7)
    query, key = middle_attention(model, states, positions)
    last, query = (part[:, shared:].unflatten(1, (questions, length)).flatten(0, 1)[rows, asking] for part in (states[-1], query))
    seen = key[:, 1:shared].repeat_interleave(questions, dim=0)
    return last, torch.einsum("bahd,bthd->baht", query, seen) * query.shape[-1] ** -0.5


def middle_attention(model: VlaModel, states: Sequence[Tensor], positions: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys (B, n, 2, head size) of the first two heads of the middle layer. states: each layer's input
    (B, n, hidden)."""
    llama = model.language_model.model
    middle = len(llama.layers) // 2
    layer = llama.layers[middle]
    width = 2 * layer.self_attn.head_dim
    seen = layer.input_layernorm(states[middle])
    query, key = (
        F.linear(seen, part.weight[:width]).unflatten(2, (2, -1)) for part in (layer.self_attn.q_proj, layer.self_attn.k_proj)
    )
    return apply_rotary_pos_emb(query, key, *llama.rotary_emb(seen, positions), unsqueeze_dim=2)


def side_by_side(shared: int, length: int, count: int) -> tuple[Tensor, Tensor]:
    """Mask (n, n) bool and positions (1, n) of a shared beginning and `count` continuations, each of `length` tokens."""
    part = torch.cat((torch.zeros(shared, dtype=torch.long), 1 + torch.arange(count).repeat_interleave(length)))
    seen = (part == 0) | (part[:, None] == part)
    positions = torch.cat((torch.arange(shared), (shared + torch.arange(length)).repeat(count)))
    return seen & torch.ones(len(part), len(part), dtype=torch.bool).tril(), positions[None]


def known_sentences(sentences: list[str]) -> list[str]:
    """The demonstrations' sentences and all sentences of the simulated suites: the vocabulary covers both."""
    from vla_sd_ros.sim.scene import SUITES, TASKS_PER_SUITE, find_task

    return sentences + [find_task(suite, task).instruction for suite in SUITES for task in range(TASKS_PER_SUITE)]


def _new_trainee(arguments: argparse.Namespace, tokenizer: Tokenizer, jobs: int) -> Trainee:
    torch.manual_seed(arguments.seed)
    model = VlaModel(VlaConfig())
    if arguments.start_from:
        model = checkpoint.read_model(arguments.start_from)
        keep_words(model, read_tokenizer(arguments.start_from / "tokenizer.json"), tokenizer)
    convolutions: Any = model.vision_backbone.convolutions  # torch's types know no to() for a memory format alone
    convolutions.to(memory_format=torch.channels_last)
    head = AuxiliaryHead(model.config.vision.width, model.config.text.hidden_size)
    if arguments.start_from and (arguments.start_from / checkpoint.DRAFT_HEAD).exists():
        head.load_state_dict(load_file(arguments.start_from / checkpoint.DRAFT_HEAD), strict=False)  # all but the geometry
    guide = Guide(jobs, model.config.vision.width, model.config.text.hidden_size)
    for part in (model, head, guide):
        part.to(arguments.device)
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in [*model.named_parameters(), *head.named_parameters(), *guide.named_parameters()]:
        embedding = "embed_tokens" in name or "lm_head" in name or name == "named.weight" or parameter.shape[0] == 7 * BINS
        (matrices if parameter.ndim == 2 and not embedding else others).append(parameter)
    optimizers = [
        Muon(matrices, lr=arguments.learning_rate),
        torch.optim.AdamW(others, lr=arguments.learning_rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]
    return Trainee(model, head, guide, copy.deepcopy(nn.ModuleList([model, head, guide])), optimizers)


@torch.no_grad()
def keep_words(model: VlaModel, before: Tokenizer, now: Tokenizer) -> None:
    """Move the embeddings of the words that a model knows to where another tokenizer has them, which knows more words."""
    weight = model.language_model.model.embed_tokens.weight
    known = before.get_vocab()
    old = weight.clone()
    for word, place in now.get_vocab().items():
        weight[place] = old[known[word]] if word in known else 0.02 * torch.randn_like(weight[place])


def _set_learning_rate(trainee: Trainee, arguments: argparse.Namespace) -> None:
    """A warm-up at the start of each stage, one cosine over both."""
    since = trainee.step - (arguments.vision_steps if trainee.step >= arguments.vision_steps else 0)
    total = arguments.vision_steps + arguments.steps
    rate = learning_rate(arguments.learning_rate, trainee.step, total, since, WARM_UP)
    for optimizer in trainee.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate


def _update_average(trainee: Trainee, arguments: argparse.Namespace) -> None:
    """Exponential moving average of the weights; it starts with the whole model's stage, and is a copy before.

    Not swa_utils.AveragedModel, which has one decay, fixed as it is made.
    """
    decay = EMA_DECAY if trainee.step > arguments.vision_steps + WARM_UP else 0.0
    update = get_ema_multi_avg_fn(decay)
    update(list(trainee.average.parameters()), list(trainee.live().parameters()), None)


def _evaluate(arguments: argparse.Namespace, work: Path) -> None:
    """Closed loop on the validation states, which are neither trained on nor held out."""
    from vla_sd_ros.bench.libero import success_on
    from vla_sd_ros.sim.episode import VALIDATION_STATES
    from vla_sd_ros.sim.own_scenes import OWN

    found = {path.name for directory in arguments.demonstrations for path in directory.iterdir() if path.is_dir()}
    for suite in sorted({"libero_object" if suite == OWN else suite for suite in found}):
        states = list(VALIDATION_STATES)[: arguments.evaluate]
        successes, episodes = success_on(arguments.output, suite, states)
        print(f"{suite}: {successes} of {episodes} on validation states", flush=True)
        with (work / "closed_loop.csv").open("a", newline="") as file:
            csv.writer(file).writerow([suite, successes, episodes])
