# SPDX-License-Identifier: Apache-2.0
"""`vla-sd bench decode`: the same recorded observations through every decoder, in random order, warm, device-synchronised.

Without observations it prices passes at the size of any checkpoint instead: random-7b, for one. With --project it computes what
recorded passes would cost on other devices.
"""

import argparse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vla_sd_ros import inputs
from vla_sd_ros.bench import price, project, results
from vla_sd_ros.bench.parts import Parts, parts
from vla_sd_ros.bench.results import NO_TREES, Step, step_of
from vla_sd_ros.decoding.autoregressive import Autoregressive
from vla_sd_ros.decoding.history import History
from vla_sd_ros.kinematics.pose import Pose
from vla_sd_ros.policy.quantization import NONE
from vla_sd_ros.policy.vla import Vla
from vla_sd_ros.whole_files import read_arrays

RecordedStep = tuple[np.ndarray, str, History]  # image, instruction, and the history before it, which grows with the next one
CLOSE = 9  # [bins]: distance from autoregressive decoding's tokens that is counted as agreement


@dataclass(frozen=True)
class Answer:
    """What one decoder made of one observation, and autoregressive decoding of the same."""

    step: Step
    bins: np.ndarray
    plain: np.ndarray


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of the command."""
    parser.add_argument("--observations", type=inputs.path, help="what vla-sd bench libero --record wrote")
    parser.add_argument("--most", type=inputs.count, default=100_000, help="observations at most")
    parser.add_argument("--seed", type=inputs.SEED, default=0, help="of the order of the decoders")
    parser.add_argument("--device", default="cpu", help="torch device: cpu, cuda, cuda:1")
    parser.add_argument("--dtype", default="", help="of OpenVLA's weights: bfloat16, float16 or float32; default: as stored")
    parser.add_argument(
        "--replay",
        type=inputs.path,
        help="price the passes of this trace of vla-sd bench libero; with --project also those of a results file",
    )
    parser.add_argument(
        "--project",
        type=names,
        default=[],
        metavar="h100,4090",
        help=f"compute what these passes would cost at 7 B parameters on devices that are not here: {', '.join(project.DEVICES)}",
    )
    parser.add_argument(
        "--measured",
        type=inputs.path,
        action="append",
        default=[],
        metavar="FILE",
        help="project onto the device of this results file of vla-sd bench decode, too, by its measured floors",
    )
    parser.add_argument("--actions", type=inputs.count, default=100, help="actions to price of each decoder or profile")
    parser.add_argument("--repeats", type=inputs.count, default=20, help="of each pass that is priced (default: %(default)s)")
    parser.add_argument("--batch", type=batches, default=[], metavar="1,2,4", help="price actions of so many robots at once, too")
    parser.add_argument("--against", choices=("transformers",), help="time its generate() on the same weights, too")


def names(text: str) -> list[str]:
    """Of text like h100,4090."""
    return text.split(",")


def batches(text: str) -> list[int]:
    """Numbers of robots, of text like 1,2,4."""
    sizes = [int(part) if part.isascii() and part.isdigit() else 0 for part in text.split(",")]
    if not all(1 <= size <= 64 for size in sizes):
        raise argparse.ArgumentTypeError(f"{text} must be numbers from 1 to 64, like 1,2,4")
    return sizes


def run(arguments: argparse.Namespace) -> int:
    """The command; returns its exit code."""
    if arguments.project or arguments.measured:
        return project.run(arguments)
    if arguments.observations is None:
        for option in ("decoder", "adapted", "settings", "set", "database", "drafter"):
            if getattr(arguments, option):
                raise ValueError(f"--{option} is of no use without --observations: what is priced are passes, not decoders")
        return price.run(arguments)
    if not any(arguments.observations.rglob("*.npz")):
        raise ValueError(f"no observations in {arguments.observations}: record some with vla-sd bench libero --record DIR")
    given = parts(arguments)
    answers = measure(given, arguments.observations, arguments.most, arguments.seed)
    report = {
        "observations": len(next(iter(answers.values()))),
        "quantization": arguments.quantization,
        **results.provenance(arguments.checkpoint, arguments.seed),
        **summarise(answers, given.trees()),
    }
    for name, row in report["decoders"].items():
        print(
            f"{name}: {row['latency_ms']['median']:.2f} ms median, {row['latency_ms']['p95']:.2f} p95, "
            f"{row['speedup_vs_autoregressive'] or float('nan'):.2f}x, {row['forward_passes_per_action']:.2f} passes, "
            f"{row['accepted_length']:.2f} accepted, same tokens {row['same_tokens']:.1%}, draft {row['stages_ms']['draft']:.2f} ms"
        )
    print(f"floor (vision + one prefill): {report['floor_ms']:.2f} ms")
    if arguments.json:
        results.write(arguments.json, report)
    return 0


def measure(given: Parts, observations: Path, most: int, seed: int, *, as_quantised: bool = False) -> dict[str, list[Answer]]:
    """Every decoder's answers, in the order of the observations. The history is the recorded one for all.

    What they are compared with is the policy as it was trained, or, as_quantised, as it is run: then one policy alone is loaded.
    """
    vla, decoders = given.load()
    exact = replace(given, decoders=("autoregressive",), settings=(), quantization=NONE, database="", drafter="", adapted="")
    own = as_quantised or given.quantization == NONE
    reference = Autoregressive(vla) if own else exact.load()[1]["autoregressive"]
    return compare(reference, decoders, replay(vla, observations, most), seed)


def compare(
    reference: Autoregressive, decoders: dict[str, Any], steps: Iterable[RecordedStep], seed: int
) -> dict[str, list[Answer]]:
    """Every decoder's answer to each step, in random order, so that what else the machine does disturbs all alike."""
    rng, names = np.random.default_rng(seed), list(decoders)
    answers: dict[str, list[Answer]] = {name: [] for name in names}
    for image, instruction, history in steps:
        if not answers[names[0]]:  # the first passes allocate
            for decoder in decoders.values():
                decoder.decide(image, instruction)
        plain = reference.decide(image, instruction).bins
        for name in rng.permutation(names):
            decision = decoders[name].decide(image, instruction, history)
            answers[name].append(Answer(step_of(decision), decision.bins, plain))
    return answers


def replay(vla: Vla, observations: Path, most: int) -> Iterator[RecordedStep]:
    """Image, instruction and history of each recorded step."""
    count = 0
    for path in sorted(observations.rglob("*.npz")):
        episode = observed(path)
        history = History(vla.statistics)
        for step, image in enumerate(episode["images"]):
            if count == most:
                return
            history.see(Pose(episode["positions"][step], episode["rotations"][step]))
            yield image, str(episode["instruction"]), history
            history.record(episode["bins"][step])
            count += 1


def observed(path: Path) -> dict[str, np.ndarray]:
    """What a file of observations has. Raises ValueError for another one."""
    try:
        episode = read_arrays(path, ("images", "bins", "positions", "rotations", "instruction"))
    except inputs.BadInput as error:
        raise ValueError(
            f"{path} is not what vla-sd bench libero --record writes, or damaged: remove it, or record again"
        ) from error
    if len({len(episode[name]) for name in ("images", "bins", "positions", "rotations")}) > 1:
        raise ValueError(f"{path} has not as many images as actions and poses: remove it, or record again")
    return episode


def summarise(answers: dict[str, list[Answer]], trees: Mapping[str, list[int]] = NO_TREES) -> dict:
    """The results file's "decoders" and "floor_ms"."""
    rows = {}
    for name, own in answers.items():
        distance = np.abs(np.array([a.bins for a in own]) - np.array([a.plain for a in own]))
        rows[name] = {
            **results.step_row([a.step for a in own]),
            "same_tokens": float((distance == 0).mean()),
            "near_tokens": (distance <= CLOSE).mean(0).tolist(),
            "bins_off": float(distance[:, :6].mean()),
            **({"tree": trees[name]} if name in trees else {}),
        }
    results.add_ratios(rows)
    floor = [a.step.timings_ms["vision"] + a.step.timings_ms["prefill"] for a in next(iter(answers.values()))]
    return {"decoders": rows, "floor_ms": round(float(np.median(floor)), 3)}
