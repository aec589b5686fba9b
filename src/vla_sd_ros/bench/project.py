# SPDX-License-Identifier: Apache-2.0
"""What recorded passes would cost on a device that is not here: `vla-sd bench decode --project`.

A roofline: a pass reads the weights once and multiplies them with each position, and takes as long as the longer of the two.
Bandwidth and rate are the device's nominal ones times a stated efficiency; where a results file of the device itself is at hand
(--measured), its measured floors instead, and the error of the projection beside what was measured there. The sizes are the
model's own, made without memory. What is left out: the cache of keys and values (1 % of a pass at 7 B parameters), the draft head,
and everything that a CPU does meanwhile.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from vla_sd_ros.bench import results
from vla_sd_ros.bench.cost import DRAFTED_PATHS, Costs
from vla_sd_ros.bench.price import LOOK, PROFILES, Played, read_actions
from vla_sd_ros.policy import checkpoint
from vla_sd_ros.policy.actions import BINS
from vla_sd_ros.policy.config import FusedVisionConfig, VlaConfig, read_config
from vla_sd_ros.policy.drafter import DrafterModel
from vla_sd_ros.policy.model import VlaModel
from vla_sd_ros.policy.quantization import BYTES
from vla_sd_ros.policy.random_openvla import RANDOM

BANDWIDTH_SHARE, RATE_SHARE = 0.8, 0.6  # of the nominal values, as large matrix products in bfloat16 reach them
KERNELS = 14  # of a block of a vision tower, in a captured graph
TEXT = 29  # tokens of a prompt beside the image's
STEP = 0.63  # [ms] that a step takes outside of the model (benchmarks/added_cost.py), in all decoders but the plain one
MEASURED_BY_OTHERS = {"4090": "autoregressive, measured by others: 173 to 229 ms"}


@dataclass(frozen=True)
class Device:
    """read [byte/s] and multiply [FLOP/s]: what it reaches. kernel: least time of one of a graph's kernels [s]: assumed, or, on
    a device that was measured, the share of each in a look there."""

    name: str
    read: float
    multiply: float
    kernel: float
    measured: bool = False


def nominal(name: str, gigabytes: float, teraflops: float, microseconds: float) -> Device:
    """Of the data sheet: dense bfloat16 that accumulates in single precision."""
    return Device(name, BANDWIDTH_SHARE * gigabytes * 1e9, RATE_SHARE * teraflops * 1e12, microseconds * 1e-6)


DEVICES = {
    "h100": nominal("H100 SXM", 3350, 989, 2.0),
    "4090": nominal("RTX 4090", 1008, 165, 2.5),
    "orin": nominal("Jetson AGX Orin", 204.8, 42.5, 6.0),
    "thor": nominal("Jetson AGX Thor", 273, 258, 4.0),
    "h200": nominal("H200", 4800, 989, 2.0),
    "a100": nominal("A100 80GB", 2039, 312, 2.5),
}


@dataclass(frozen=True)
class Sizes:
    """Parameters and bytes of what a look, a pass of the language model and one of the drafter read; blocks of the towers."""

    vision: tuple[float, float]
    language: tuple[float, float]
    drafter: tuple[float, float]
    image_tokens: int
    blocks: int

    @staticmethod
    def of(config: VlaConfig, quantization: str = "none") -> "Sizes":
        """In bfloat16, the language model's layers quantised."""
        with torch.device("meta"):
            model, drafter = VlaModel(config), DrafterModel(config.text)
        count = lambda module: float(sum(p.numel() for p in module.parameters()))  # noqa: E731
        output = BINS * config.text.hidden_size
        vision, layers = count(model.vision_backbone) + count(model.projector), count(model.language_model.model.layers)
        towers = (config.vision.featurizer, config.vision.fused_featurizer) if isinstance(config.vision, FusedVisionConfig) else ()
        return Sizes(
            (vision, 2 * vision),
            (layers + output, layers * BYTES.get(quantization, 2.0) + 2 * output),
            (count(drafter) + output, 2 * (count(drafter) + output)),
            config.vision.tokens,
            sum(tower.depth - 1 for tower in towers),
        )


def roofline(device: Device, sizes: Sizes) -> Costs:
    """What the passes cost there."""

    def ms(size: tuple[float, float], positions: int) -> float:
        number, size_bytes = size
        return 1e3 * max(size_bytes / device.read, 2 * number * positions / device.multiply)

    prompt = sizes.image_tokens + TEXT
    vision = max(ms(sizes.vision, sizes.image_tokens), 1e3 * device.kernel * KERNELS * sizes.blocks)
    return Costs(
        vision,
        lambda drafted: ms(sizes.language, prompt + drafted),
        lambda positions: ms(sizes.language, positions),
        ms(sizes.drafter, prompt),
        lambda positions: ms(sizes.drafter, positions),
    )


def row_of(actions: list[Played], costs: Costs, plain_ms: float) -> dict:
    """Mean, median and p95 of the recorded actions on a device, and what follows."""
    known: dict[int, float] = {}  # many are the same one
    for one in actions:
        if id(one) not in known:
            own = replace(costs, outside=0.0) if one.path == "autoregressive" else costs
            known[id(one)] = own.action(one.path, one.passes, one.tree, one.reach)
    times = np.array([known[id(one)] for one in actions])
    mean, p95 = float(times.mean()), float(np.percentile(times, 95))
    return {
        "latency_ms": {"median": float(np.median(times)), "mean": mean, "p95": p95},
        "mean_speedup_vs_autoregressive": plain_ms / mean,
        "control_rate_hz": 1e3 / p95,
    }


def rows_of(actions: dict[str, list[Played]], device: Device, sizes: Sizes) -> dict[str, dict]:
    """A row for each name as it was recorded, with the drafter's tree where one drafts."""
    costs, plain = replace(roofline(device, sizes), outside=STEP), Played(*PROFILES["autoregressive"])
    plain_ms = replace(costs, outside=0.0).action(plain.path, plain.passes)
    rows: dict[str, dict] = {}
    for name, own in ({"autoregressive": [plain]} | actions).items():
        rows[name] = row_of(own, costs, plain_ms)
        if own[0].path in DRAFTED_PATHS or "@" in name:
            rows[name]["tree"] = list(own[0].tree)
    return rows


def project(actions: dict[str, list[Played]], device: Device, sizes: Sizes) -> dict[str, dict]:
    """Rows by decoder; of a decoder that was recorded with several trees, the best one on this device, and which."""
    rows: dict[str, dict] = {}
    for name, row in rows_of(actions, device, sizes).items():
        decoder, _, setting = name.partition("@")
        if setting.startswith(f"{decoder}_tree="):
            name = decoder
        if name not in rows or row["latency_ms"]["mean"] < rows[name]["latency_ms"]["mean"]:
            rows[name] = row
    return rows


def measured_there(path: Path) -> tuple[Device, dict[str, float]]:
    """A device as `vla-sd bench decode` measured it, and its milliseconds of each profile. Raises ValueError."""
    try:
        report = json.loads(path.read_text())
        floor, look = report["floor"], report["passes_ms"][LOOK]
        config = own_config(report["checkpoint"])
        if not isinstance(config.vision, FusedVisionConfig):
            raise ValueError(f"{report['checkpoint']} is not of OpenVLA's structure: measure there with --checkpoint random-7b")
        kernels = KERNELS * Sizes.of(config).blocks
        device = Device(
            report["device"], floor["read_gb_per_s"] * 1e9, floor["tflops"] * 1e12, 1e-3 * look / kernels, measured=True
        )
        found = {name: row["latency_ms"]["median"] for name, row in report["decoders"].items() if name in PROFILES}
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is no results file of vla-sd bench decode on a device ({error})") from error
    return device, found


def errors(device: Device, sizes: Sizes, found: dict[str, float]) -> dict[str, dict[str, float]]:
    """Projected and measured milliseconds of each profile but a look alone, which is measured itself."""
    costs = roofline(device, sizes)
    return {
        name: {"projected_ms": (ms := costs.action(*PROFILES[name])), "measured_ms": measured, "error": ms / measured - 1}
        for name, measured in found.items()
        if name != "skip"
    }


def own_config(name: str) -> VlaConfig:
    """Of a checkpoint. Raises ValueError where it cannot be read."""
    if name in RANDOM:
        return RANDOM[name]
    try:
        return read_config(checkpoint.find(name) / "config.json")
    except OSError as error:
        raise ValueError(f"checkpoint {name!r} has no config.json that can be read ({error})") from error


def config_of(name: str) -> VlaConfig:
    """Of a checkpoint; the embedded policy, whose size says nothing of such devices, stands for OpenVLA-7B."""
    config = own_config(name)
    return config if isinstance(config.vision, FusedVisionConfig) else RANDOM["random-7b"]


def chosen(arguments: argparse.Namespace) -> Iterator[tuple[str, Device, dict[str, float]]]:
    """The devices by key, and what was measured there. Raises ValueError for one that is unknown."""
    for key in arguments.project:
        if key not in DEVICES:
            raise ValueError(
                f"--project knows no device {key!r}: choose of {', '.join(DEVICES)}, or give --measured a results file"
            )
        yield key, DEVICES[key], {}
    for path in arguments.measured:
        device, found = measured_there(path)
        yield device.name, device, found


def run(arguments: argparse.Namespace) -> int:
    """Print, and write where --json asks for it."""
    if not arguments.replay:
        raise ValueError(
            "--project needs the passes of a closed loop: --replay with a trace or a results file of vla-sd bench libero"
        )
    actions = read_actions(arguments.replay)
    sizes = Sizes.of(config_of(arguments.checkpoint), arguments.quantization)
    report = {
        **results.provenance("OpenVLA-7B" if arguments.checkpoint not in RANDOM else arguments.checkpoint, arguments.seed),
        "of": str(arguments.replay),
        "quantization": arguments.quantization,
        "assumed": {
            "bandwidth_share": BANDWIDTH_SHARE,
            "rate_share": RATE_SHARE,
            "kernels_of_a_block": KERNELS,
            "text_tokens": TEXT,
            "step_ms": STEP,
        },
        "projected": {},
    }
    for key, device, found in chosen(arguments):
        entry = {
            "device": asdict(device),
            "decoders": project(actions, device, sizes),
            "sanity": MEASURED_BY_OTHERS.get(key, ""),
            "errors": errors(device, sizes, found),
        }
        report["projected"][key] = entry
        for line in lines(entry):
            print(line)
    if arguments.json:
        results.write(arguments.json, report)
    return 0


def lines(entry: dict) -> Iterator[str]:
    """For people."""
    device = entry["device"]
    yield (
        f"{device['name']}, {'measured' if device['measured'] else 'projected'}: reads {device['read'] / 1e9:.0f} GB/s, "
        f"multiplies {device['multiply'] / 1e12:.0f} TFLOP/s"
    )
    for name, row in entry["decoders"].items():
        latency, tree = row["latency_ms"], "/".join(map(str, row.get("tree", [])))
        yield (
            f"  {name}{' with a tree of ' + tree if tree else ''}: {latency['mean']:.1f} ms mean, {latency['median']:.1f} median, "
            f"{latency['p95']:.1f} p95, {row['mean_speedup_vs_autoregressive']:.2f}x, {row['control_rate_hz']:.1f} Hz"
        )
    if entry["sanity"]:
        yield f"  {entry['sanity']}"
    for name, row in entry["errors"].items():
        yield f"  {name}: {row['projected_ms']:.1f} ms by its floors and look, {row['measured_ms']:.1f} measured: {row['error']:+.0%}"
