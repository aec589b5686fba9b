# SPDX-License-Identifier: Apache-2.0
"""`vla-sd train`: the embedded policy from demonstrations; run again to resume.

Two stages in one schedule: first the vision tower alone learns where things are through the auxiliary head, which is
cheap; then the whole model learns actions.
"""
import argparse
import copy
import csv
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vla_sd_ros.policy import checkpoint
from vla_sd_ros.policy.actions import BINS, ActionStatistics, read_statistics
from vla_sd_ros.policy.config import VlaConfig
from vla_sd_ros.policy.model import VlaModel
from vla_sd_ros.policy.prompt import prompt_ids, word_tokenizer
from vla_sd_ros.policy.vla import normalise_pixels
from vla_sd_ros.training.data import Batch, Batches, Frames, open_frames, pack, vary_colours
from vla_sd_ros.training.loop import Log, average_gradients, learning_rate, load_state, multiplies_bf16, save_state, spawn
from vla_sd_ros.training.losses import AuxiliaryHead, action_loss, auxiliary_loss
from vla_sd_ros.training.muon import Muon

EMA_DECAY = 0.998
AUXILIARY_WEIGHT = 0.3
WARM_UP = 200  # steps
STATISTICS_KEY = "libero_5hz"
STATE = "state.pt"  # of an interrupted training


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--demonstrations", type=Path, nargs="+", default=[Path("demonstrations")])
    parser.add_argument("--output", type=Path, default=Path("checkpoints/libero"), help="checkpoint directory to write")
    parser.add_argument("--vision-steps", type=int, default=1500, help="steps of the vision tower alone")
    parser.add_argument("--steps", type=int, default=4000, help="steps of the whole model after that")
    parser.add_argument("--batch-size", type=int, default=64, help="over all processes")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--start-from", help="checkpoint whose weights to begin with: ./directory, or a shipped one")
    parser.add_argument("--repack", action="store_true", help="read the demonstrations again")
    parser.add_argument("--evaluate", type=int, default=1, metavar="N", help="closed-loop episodes per task at the end")


def run(arguments: argparse.Namespace) -> int:
    work = arguments.output / "training"
    if arguments.repack or not (work / "meta.json").exists():
        pack(arguments.demonstrations, work)
    try:
        if arguments.start_from:
            arguments.start_from = checkpoint.find(arguments.start_from)
        load_state(work / STATE)  # says what is wrong before any process starts
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    spawn(_train, (arguments, work), arguments.processes)
    if arguments.evaluate:
        _evaluate(arguments, work)
    return 0


@dataclass
class Trainee:
    """Everything that a resumed run needs. average: the moving average of model and head."""

    model: VlaModel
    head: AuxiliaryHead
    average: nn.ModuleList
    optimizers: list[torch.optim.Optimizer]
    step: int = 0

    def live(self) -> nn.ModuleList:
        return nn.ModuleList([self.model, self.head])

    def state(self) -> dict:
        return {
            "live": self.live().state_dict(), "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers], "step": self.step,
        }

    def restore(self, state: dict) -> None:
        self.live().load_state_dict(state["live"])
        self.average.load_state_dict(state["average"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"]):
            optimizer.load_state_dict(saved)
        self.step = state["step"]


def _train(rank: int, arguments: argparse.Namespace, work: Path) -> None:
    frames = open_frames(work)
    statistics = _statistics(arguments, frames)
    tokenizer = word_tokenizer(known_sentences(frames.sentences))
    trainee = _new_trainee(arguments, rank)
    saved = work / STATE
    if state := load_state(saved):
        trainee.restore(state)
    ids = [torch.tensor(prompt_ids(tokenizer, sentence, None)) for sentence in frames.sentences]
    seed = [arguments.seed, rank, trainee.step]
    batches = Batches(frames, statistics, arguments.batch_size // arguments.processes, seed)
    generator = torch.Generator().manual_seed(int(np.random.default_rng(seed).integers(2**62)))
    log = Log(work / "log.csv", ("loss", "auxiliary", "direct", "action")) if rank == 0 else None
    total = arguments.vision_steps + arguments.steps
    bf16 = multiplies_bf16()
    last_saved = time.monotonic()

    while trainee.step < total:
        whole = trainee.step >= arguments.vision_steps
        _set_learning_rate(trainee, arguments)
        batch = batches.draw()
        pixels = vary_colours(normalise_pixels(batch.images, trainee.model.config), generator)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            losses = compute_losses(trainee.model, trainee.head, pixels, batch, ids, whole)
        for optimizer in trainee.optimizers:
            optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        average_gradients(trainee.live().parameters())
        for optimizer in trainee.optimizers:
            optimizer.step()
        trainee.step += 1
        _update_average(trainee, arguments)
        if log:
            log.add(trainee.step, total, {name: value.item() for name, value in losses.items()}, arguments.batch_size)
            if time.monotonic() - last_saved > 120 or trainee.step == total:
                save_state(saved, trainee.state())
                model, head = trainee.average
                checkpoint.save(arguments.output, model, tokenizer, STATISTICS_KEY, statistics, head.draft_head())
                last_saved = time.monotonic()


def _statistics(arguments: argparse.Namespace, frames: Frames) -> ActionStatistics:
    """Those that the weights were trained with, where there are any: other ones would give every bin another meaning."""
    for directory in filter(None, (arguments.output, arguments.start_from)):
        if (directory / checkpoint.STATISTICS).exists():
            return read_statistics(directory / checkpoint.STATISTICS)[STATISTICS_KEY]
    return frames.statistics()


def compute_losses(
    model: VlaModel, head: AuxiliaryHead, pixels: Tensor, batch: Batch, ids: list[Tensor], whole: bool
) -> dict[str, Tensor]:
    """Losses of a batch in full precision; ids: prompt tokens of each sentence. whole: the language model too, not the vision tower alone."""
    features = model.vision_backbone(pixels)
    prompts = [ids[i] for i in batch.instructions]
    text = torch.stack([model.text_embeddings(prompt).mean(0) for prompt in prompts])
    geometry, direct = (output.float() for output in head(features, text))
    losses = {"auxiliary": auxiliary_loss(geometry, batch), "direct": action_loss(direct, batch)}
    if not whole:
        return {"loss": losses["auxiliary"] + 0.3 * losses["direct"], **losses}
    losses["action"] = action_loss(action_logits(model, features, prompts, batch.prefix), batch)
    return {"loss": losses["action"] + AUXILIARY_WEIGHT * (losses["auxiliary"] + 0.3 * losses["direct"]), **losses}


def action_logits(model: VlaModel, features: Tensor, prompts: list[Tensor], bins: Tensor) -> Tensor:
    """Logits (B, 7, 256) for features (B, cells, width) under teacher forcing with bins (B, 7)."""
    tokens = model.config.action_end - 1 - bins[:, :6]
    texts = [torch.cat((prompt[1:], row)) for prompt, row in zip(prompts, tokens)]
    padded = nn.utils.rnn.pad_sequence(texts, batch_first=True)  # on the right: causal attention never sees it
    first = model.text_embeddings(prompts[0][:1]).expand(len(prompts), 1, -1)
    embeddings = torch.cat((first, model.projector(features), model.text_embeddings(padded)), dim=1)
    hidden = model.language_model.model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
    ends = torch.tensor([model.config.vision.tokens + len(prompt) - 1 for prompt in prompts])
    read = ends[:, None] + torch.arange(7)
    return (hidden[torch.arange(len(prompts))[:, None], read] @ model.action_weight().T).float()


def known_sentences(sentences: list[str]) -> list[str]:
    """The demonstrations' sentences and all sentences of the simulated suites: the vocabulary covers both."""
    from vla_sd_ros.sim.scene import SUITES, TASKS_PER_SUITE, find_task

    return sentences + [find_task(suite, task).instruction for suite in SUITES for task in range(TASKS_PER_SUITE)]


def _new_trainee(arguments: argparse.Namespace, rank: int) -> Trainee:
    torch.manual_seed(arguments.seed)
    model = VlaModel(VlaConfig())
    if arguments.start_from:
        model = checkpoint.read_model(arguments.start_from)
    model.vision_backbone.convolutions.to(memory_format=torch.channels_last)
    head = AuxiliaryHead(model.config.vision.width, model.config.text.hidden_size)
    if arguments.start_from and (arguments.start_from / checkpoint.DRAFT_HEAD).exists():
        head.load_state_dict(load_file(arguments.start_from / checkpoint.DRAFT_HEAD), strict=False)  # all but the geometry
    matrices, others = [], []
    for name, parameter in [*model.named_parameters(), *head.named_parameters()]:
        embedding = "embed_tokens" in name or "lm_head" in name or parameter.shape[0] == 7 * BINS
        (matrices if parameter.ndim == 2 and not embedding else others).append(parameter)
    optimizers = [
        Muon(matrices, lr=arguments.learning_rate),
        torch.optim.AdamW(others, lr=arguments.learning_rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]
    return Trainee(model, head, copy.deepcopy(nn.ModuleList([model, head])), optimizers)


def _set_learning_rate(trainee: Trainee, arguments: argparse.Namespace) -> None:
    """A warm-up at the start of each stage, one cosine over both."""
    since = trainee.step - (arguments.vision_steps if trainee.step >= arguments.vision_steps else 0)
    total = arguments.vision_steps + arguments.steps
    rate = learning_rate(arguments.learning_rate, trainee.step, total, since, WARM_UP)
    for optimizer in trainee.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate


@torch.no_grad()
def _update_average(trainee: Trainee, arguments: argparse.Namespace) -> None:
    """Exponential moving average of the weights; it starts with the whole model's stage."""
    decay = EMA_DECAY if trainee.step > arguments.vision_steps + WARM_UP else 0.0
    for averaged, parameter in zip(trainee.average.parameters(), trainee.live().parameters()):
        averaged.lerp_(parameter, 1 - decay)


def _evaluate(arguments: argparse.Namespace, work: Path) -> None:
    """Closed loop on the validation states, which are neither trained on nor held out."""
    from vla_sd_ros.bench.libero import success_on
    from vla_sd_ros.sim.episode import VALIDATION_STATES

    suites = sorted({path.name for directory in arguments.demonstrations for path in directory.iterdir() if path.is_dir()})
    for suite in suites:
        states = list(VALIDATION_STATES)[: arguments.evaluate]
        successes, episodes = success_on(arguments.output, suite, states)
        print(f"{suite}: {successes} of {episodes} on validation states", flush=True)
        with (work / "closed_loop.csv").open("a", newline="") as file:
            csv.writer(file).writerow([suite, successes, episodes])
