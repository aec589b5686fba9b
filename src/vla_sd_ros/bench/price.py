# SPDX-License-Identifier: Apache-2.0
"""What the passes of decoding cost on a device, beside what they must cost there: `vla-sd bench decode` without observations.

The passes are those of a forced profile of acceptance, or the very ones that a closed-loop run took (--replay). Their tokens
are made up: a pass takes as long whatever it is about, so weights may be random, and what is accepted is given.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from vla_sd_ros import policy
from vla_sd_ros.bench import results
from vla_sd_ros.bench.cost import DRAFTED_PATHS, RELEASED, Tree, once_ms, reach_of
from vla_sd_ros.bench.results import Step
from vla_sd_ros.decoding.autoregressive import Autoregressive
from vla_sd_ros.decoding.decision import Stopwatch
from vla_sd_ros.decoding.methods.fused import AHEAD
from vla_sd_ros.decoding.sources import DRAFTED_TOKENS
from vla_sd_ros.policy.batch import BatchedVla
from vla_sd_ros.policy.draft import EMPTY, Draft, below, chain
from vla_sd_ros.policy.drafter import Drafter, DrafterModel
from vla_sd_ros.policy.vla import ACTION_TOKENS, Pass, Prompt, Vla

INSTRUCTION = "pick up the milk and place it in the basket"
SIZE = (480, 640)  # of the made-up image, rows and columns
TREE = 49  # drafted nodes of Spec-VLA's tree
DEPTH = ACTION_TOKENS - 1
LOOK = "vision and projector"  # among the priced passes
COMPARED = 16  # made-up images on which a quantised policy is compared with the same one unquantised
# path and passes (kind, drafted, accepted) of one action each
PROFILES = {
    "autoregressive": ("autoregressive", [("prefill", 0, 0)] + [("extend", 0, 0)] * 6),
    "draft tree, 3 + 2 accepted": ("draft", [("prefill", 0, 0), ("extend", TREE, 3), ("extend", TREE, 2)]),
    "prefill, 3 accepted": ("prefill", [("prefill", DEPTH, 3), ("extend", 2, 2)]),
    "single pass": ("prefill", [("prefill", DEPTH, DEPTH)]),
    "skip": ("skip", []),
}


@dataclass(frozen=True)
class Played:
    """An action to play: the path it took, its passes (kind, drafted, accepted), and the drafter's tree where one drafted, up to
    which token."""

    path: str
    passes: list[tuple[str, int, int]]
    tree: Tree = RELEASED
    reach: int = DRAFTED_TOKENS


def run(arguments: argparse.Namespace) -> int:
    """The command; returns its exit code."""

    def load(quantization: str) -> Vla:
        return policy.load(
            arguments.checkpoint,
            arguments.device,
            arguments.unnorm_key,
            threads=arguments.threads,
            dtype=arguments.dtype,
            quantization=quantization,
            largest_step=tuple(arguments.largest_step),
        )

    plain = answers(load("none"), arguments.seed) if arguments.quantization != "none" else []  # not both at a time
    vla = load(arguments.quantization)
    actions = read_actions(arguments.replay) if arguments.replay else {n: [Played(*p)] for n, p in PROFILES.items()}
    rows = price(vla, actions, arguments.actions, arguments.seed)
    floors = Floors.measure(vla)
    report = {
        **results.provenance(arguments.checkpoint, arguments.seed),
        "device": device_name(vla.device),
        "dtype": vla.precision,
        "of": str(arguments.replay or "forced profiles"),
        "floor": floors.report(vla),
        "decoders": rows,
        "passes_ms": price_passes(vla, arguments.repeats),
    }
    if plain:
        report["same_tokens_as_unquantised"] = agreement(vla, plain, arguments.seed)
    if arguments.batch:
        report["batches"] = {rows: price_batch(vla, rows, arguments.repeats) for rows in arguments.batch}
    if arguments.against:
        report["transformers_ms"] = price_transformers(vla, arguments.repeats)
    _print(report)
    if arguments.json:
        results.write(arguments.json, report)
    return 0


def _print(report: dict) -> None:
    floor = report["floor"]
    print(f"{report['device']}, {report['dtype']}; {report['of']}")
    print(
        f"floor: {floor['single_pass_ms']:.2f} ms a single pass, {floor['autoregressive_ms']:.2f} ms autoregressive (reads "
        f"{floor['read_gb_per_s']:.0f} GB/s, multiplies {floor['tflops']:.2f} TFLOP/s)"
    )
    for name, row in report["decoders"].items():
        print(
            f"{name}: {row['latency_ms']['median']:.2f} ms median, {row['speedup_vs_autoregressive'] or float('nan'):.2f}x, "
            f"{row['forward_passes_per_action']:.2f} passes"
        )
    for name, median in (report["passes_ms"] | report.get("transformers_ms", {})).items():
        print(f"{name}: {median:.2f} ms")
    for rows, row in report.get("batches", {}).items():
        print(
            f"batch of {rows}: {row['autoregressive_ms']:.2f} ms autoregressive, {row['single_pass_ms']:.2f} ms a single pass; "
            f"for each robot {row['autoregressive_ms'] / rows:.2f} and {row['single_pass_ms'] / rows:.2f} ms"
        )
    if "same_tokens_as_unquantised" in report:
        print(f"same tokens as unquantised: {report['same_tokens_as_unquantised']:.1%}")


def made_up(seed: int) -> list[np.ndarray]:
    """Coarse patterns of colours, (480, 640, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (COMPARED, 6, 8, 3), np.uint8)
    return list(coarse.repeat(SIZE[0] // 6, axis=1).repeat(SIZE[1] // 8, axis=2))


def answers(vla: Vla, seed: int) -> list[np.ndarray]:
    """The tokens (7,) of autoregressive decoding for each image."""
    decoder = Autoregressive(vla)
    return [decoder.decide(image, INSTRUCTION).bins for image in made_up(seed)]


def agreement(vla: Vla, plain: list[np.ndarray], seed: int) -> float:
    """Fraction of the tokens `plain`, bins (7,) of each image, that this policy would choose too, after the same tokens before."""
    same = [
        vla.prefill(vla.observe(image, INSTRUCTION), chain(bins[:-1])).greedy() == bins for image, bins in zip(made_up(seed), plain)
    ]
    return float(np.mean(same))


def price_batch(vla: Vla, rows: int, repeats: int) -> dict[str, float]:
    """Median milliseconds of whole actions of so many robots at once."""
    batch, images, every = BatchedVla(vla, rows), made_up(0), list(range(rows))
    images, instructions = [images[row % COMPARED] for row in every], [INSTRUCTION] * rows

    def act(draft: Draft, more: int) -> None:
        passes: Sequence[Pass] = batch.prefill(every, batch.observe(images, instructions), [draft] * rows)
        for _ in range(more):
            passes = batch.extend(every, [chain(out.greedy()[-1:]) for out in passes])
            for row in every:
                batch.keep(row, [0])
        for out in passes:
            out.greedy()

    return {
        "vision_ms": median_ms(vla, lambda: batch.observe(images, instructions)[0].embeddings, repeats),
        "single_pass_ms": median_ms(vla, lambda: act(shaped(DEPTH), 0), repeats),
        "autoregressive_ms": median_ms(vla, lambda: act(EMPTY, DEPTH), repeats),
    }


def read_actions(path: Path) -> dict[str, list[Played]]:
    """Every step by decoder: of a trace, or of the histograms of a results file. Raises ValueError for a file that is neither."""
    try:
        rows = json.loads(path.read_text())["decoders"]
    except (OSError, KeyError, TypeError, ValueError):
        return _read_trace(path)
    try:
        actions = actions_of(rows)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is a results file with passes that cannot be read ({error}): make it again") from error
    if not actions:
        raise ValueError(f"{path} does not say which passes were taken: vla-sd bench libero --json writes such results")
    return actions


def actions_of(rows: dict[str, dict]) -> dict[str, list[Played]]:
    """Every step by decoder, of those of a results file's rows that have histograms."""
    return {
        name: [
            action
            for text, count in row["sequences"].items()
            for action in [played(*results.read_sequence(text), row.get("tree", RELEASED), name)] * count
        ]
        for name, row in rows.items()
        if any(row.get("sequences", {}).values())
    }


def _read_trace(path: Path) -> dict[str, list[Played]]:
    actions: dict[str, list[Played]] = {}
    try:
        for line in path.read_text().splitlines():
            episode = json.loads(line)
            name, tree = episode["decoder"], episode.get("tree", RELEASED)
            own = [played(step["path"], [tuple(one) for one in step["passes"]], tree, name) for step in episode["steps"]]
            actions.setdefault(name, []).extend(own)
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is not a trace of vla-sd bench libero --trace ({error})") from error
    if not actions or not all(actions.values()):
        raise ValueError(f"{path} has no episodes, or one without steps: write one with vla-sd bench libero --trace FILE")
    return actions


def played(path: str, passes: list[tuple[str, int, int]], tree: Sequence[int], decoder: str) -> Played:
    """An action as it was recorded. Raises ValueError, or TypeError, where it is none."""
    for kind, drafted, accepted in passes:
        if kind not in ("prefill", "extend") or not 0 <= accepted <= drafted:
            raise ValueError(f"there is no pass {kind!r} with {drafted} drafted and {accepted} accepted tokens")
    nodes, levels, continuations = tree
    if min(tree) < 1:
        raise ValueError(f"there is no tree of {nodes} nodes, {levels} levels and {continuations} continuations")
    return Played(path, passes, (nodes, levels, continuations), reach_of(decoder))


def price(vla: Vla, actions: dict[str, list[Played]], most: int, seed: int) -> dict[str, dict]:
    """Rows of a results file: `most` actions of each name, drawn at random and played in random order."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*SIZE, 3), np.uint8)
    drafter = Drafter(DrafterModel(vla.config.text), vla)
    order = [(name, actions[name][i]) for name in actions for i in rng.integers(len(actions[name]), size=most)]
    for name in actions:
        play(vla, drafter, image, actions[name][0])  # the first passes allocate, and capture what can be captured
    steps: dict[str, list[Step]] = {name: [] for name in actions}
    for i in rng.permutation(len(order)):
        name, action = order[i]
        steps[name].append(Step(action.path, play(vla, drafter, image, action), action.passes))
    rows = {name: results.step_row(own) for name, own in steps.items()}
    results.add_ratios(rows)
    return rows


def play(vla: Vla, drafter: Drafter, image: np.ndarray, action: Played) -> dict[str, float]:
    """Milliseconds by stage of one action, for image (H, W, 3), whose passes and accepted lengths are given."""
    watch = Stopwatch(vla.synchronise)
    if action.path == AHEAD:  # without a look; what foretells it costs next to nothing
        return watch.timings_ms
    prompt = vla.observe(image, INSTRUCTION)
    watch.lap("vision")
    session = drafter.session(*action.tree, action.reach) if action.path in DRAFTED_PATHS else None
    tokens = 1
    for kind, drafted, accepted in action.passes:
        draft = shaped(drafted)
        if kind == "prefill":
            first = vla.prefill(prompt, draft)
            first.greedy()
            vla.keep(list(range(accepted)))
            watch.lap("prefill")
            if session:
                session.start(prompt, first)
        else:
            if session:
                session.propose([0] * tokens)
                watch.lap("draft")
            out = vla.extend(below(0, draft))
            out.greedy()
            path = list(range(accepted + 1))
            vla.keep(path)
            watch.lap("decode")
            if session:
                session.follow(np.zeros(len(path), dtype=int), out.hidden[path])
        tokens += accepted + 1 if kind == "extend" else accepted
    watch.lap("draft")
    return watch.timings_ms


def shaped(drafted: int) -> Draft:
    """A draft of this many nodes: a chain, and what is more than an action below its root, side by side."""
    if drafted <= DEPTH:
        return chain([0] * drafted)
    return Draft(np.zeros(drafted, dtype=int), np.concatenate((np.arange(DEPTH) - 1, np.zeros(drafted - DEPTH, dtype=int))))


def price_passes(vla: Vla, repeats: int) -> dict[str, float]:
    """Median milliseconds of each stage, by the number of positions."""
    image = np.zeros((*SIZE, 3), np.uint8)
    prompt = vla.observe(image, INSTRUCTION)
    found = {LOOK: median_ms(vla, lambda: vla.observe(image, INSTRUCTION).embeddings, repeats)}
    for drafted in (0, DEPTH, TREE):
        found[f"prefill with {drafted} drafted"] = median_ms(vla, lambda: vla.prefill(prompt, shaped(drafted)).greedy(), repeats)
    for drafted in (0, DEPTH - 1, TREE):
        vla.prefill(prompt)
        found[f"extend with {drafted} drafted"] = median_ms(vla, lambda: vla.extend(below(0, shaped(drafted))).greedy(), repeats)
    return found


def price_transformers(vla: Vla, repeats: int) -> dict[str, float]:
    """Median milliseconds of a whole action by transformers' generate() over the same weights, vision by the same tower."""
    image, model = np.zeros((*SIZE, 3), np.uint8), vla.llama
    found = {}
    for name, implementation, cache in (("eager", "eager", None), ("sdpa", "sdpa", None), ("static cache", "sdpa", "static")):
        model.set_attn_implementation(implementation)

        def whole() -> None:
            prompt = vla.observe(image, INSTRUCTION)
            model.generate(  # type: ignore[misc]  # transformers types its self as a protocol that no model fulfils
                inputs_embeds=prompt.embeddings[None],
                attention_mask=_ones(prompt),
                min_new_tokens=ACTION_TOKENS,
                max_new_tokens=ACTION_TOKENS,
                do_sample=False,
                cache_implementation=cache,
                pad_token_id=0,
            )

        found[f"transformers, {name}"] = median_ms(vla, whole, repeats)
    return found


def _ones(prompt: Prompt) -> torch.Tensor:
    return torch.ones(1, len(prompt.embeddings), dtype=torch.long, device=prompt.embeddings.device)


@dataclass(frozen=True)
class Floors:
    """Measured limits of a device: what it reads [byte/s] and multiplies [FLOP/s] at best, in the policy's precision."""

    read: float
    multiply: float

    @staticmethod
    def measure(vla: Vla) -> "Floors":
        """On the device of the policy, by copying and multiplying large arrays there."""
        large = vla.device.type == "cuda"
        source = torch.empty(2**30 if large else 2**27, dtype=torch.uint8, device=vla.device)
        target = torch.empty_like(source)
        copied = best_s(vla, partial(target.copy_, source))
        del target
        n = 8192 if large else 1024
        matrix = torch.randn(n, n, device=vla.device, dtype=vla.lm_head.dtype)
        return Floors(2 * source.nbytes / copied, 2 * n**3 / best_s(vla, lambda: matrix @ matrix))

    def report(self, vla: Vla) -> dict:
        """Floors of a single pass (vision, projector, a prefill with a whole draft) and of autoregressive decoding [ms]."""
        vision, language = vla.sizes()
        positions = len(vla.observe(np.zeros((*SIZE, 3), np.uint8), INSTRUCTION).embeddings)
        look = self._pass(vision, vla.config.vision.tokens)
        prefill, drafted, single = (self._pass(language, n) for n in (positions, positions + DEPTH, 1))
        return {
            "read_gb_per_s": self.read / 1e9,
            "tflops": self.multiply / 1e12,
            "single_pass_ms": 1e3 * (look + drafted),
            "autoregressive_ms": 1e3 * (look + prefill + DEPTH * single),
        }

    def _pass(self, size: tuple[int, int], positions: int) -> float:
        """Seconds for weights (number, bytes) over so many positions: the longer of reading and multiplying them once."""
        number, size_bytes = size
        return max(size_bytes / self.read, 2 * number * positions / self.multiply)


def median_ms(vla: Vla, work: Callable, repeats: int) -> float:
    """Median time [ms] of a piece of work, until the device has done it."""
    return 1e3 * float(np.median(_times(vla, work, repeats)))


def best_s(vla: Vla, work: Callable, repeats: int = 10) -> float:
    """Shortest time [s] of a piece of work, until the device has done it."""
    return min(_times(vla, work, repeats))


def _times(vla: Vla, work: Callable, repeats: int) -> list[float]:
    times = []
    warm = min(repeats - 1, 3)  # runs that are not counted; a single run has none before it
    for _ in range(warm + repeats):
        times.append(1e-3 * once_ms(vla, work))
    return times[warm:]


def device_name(device: torch.device) -> str:
    """The name of a GPU, or of this machine's processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else results.device_name()
