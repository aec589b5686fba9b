# SPDX-License-Identifier: Apache-2.0
"""The shape of the drafter's tree as a measured choice: for each decoder and device the one whose actions take least time.

Every shape decodes recorded steps in the decoder itself, on the device, and the shortest mean time is what is chosen by. For
another device the time is computed from the same passes and what they cost there (bench/project.py): wide trees pay where
positions are free, chains where each of them costs. What the costs of the passes foretell on the device itself is reported beside
what was measured.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any

import numpy as np
import torch

from vla_sd_ros.assembly.local import Model
from vla_sd_ros.bench import cost, results
from vla_sd_ros.bench.cost import Costs, Tree
from vla_sd_ros.bench.decode import compare, summarise
from vla_sd_ros.decoding import factory
from vla_sd_ros.decoding.autoregressive import Autoregressive
from vla_sd_ros.decoding.settings import Settings
from vla_sd_ros.policy.vla import Vla

DECODERS = ("naive_sd", "spec_vla", "kerv", "heisd")  # the last one only where there is a database
# fmt: off
SHAPES: tuple[Tree, ...] = (
    (3, 2, 1), (4, 3, 1), (5, 4, 1), (6, 5, 1),  # chains; the last one has all motion tokens behind the first
    (8, 5, 2), (12, 5, 2), (12, 5, 4), (20, 5, 4), (20, 3, 8), (20, 5, 8), (50, 4, 8), (50, 5, 8),
)
# fmt: on


@dataclass(frozen=True)
class Shapes:
    """rows: of a results file, by decoder@..._tree=nodes+levels+continuations, and autoregressive. costs: on the device."""

    rows: dict[str, dict]
    costs: Costs
    steps: int

    def of(self, decoder: str) -> list[str]:
        """The rows of a decoder; none where it was not measured."""
        return [name for name in self.rows if name.startswith(f"{decoder}@")]

    @property
    def decoders(self) -> list[str]:
        """Those that were measured and drafted; heisd may do without, where any shape is as good as another."""
        drafted = {name for name, row in self.rows.items() if any(path in row["paths"] for path in cost.DRAFTED_PATHS)}
        return [decoder for decoder in DECODERS if drafted & {*self.of(decoder)}]

    def best(self, decoder: str, costs: Costs | None = None) -> str:
        """The row of a decoder whose actions took least time on average; costs: of a device, whose actions cost least by them."""
        if costs is None:
            return min(self.of(decoder), key=lambda name: self.rows[name]["latency_ms"]["mean"])
        return min(self.of(decoder), key=lambda name: expected_ms(self.rows[name], costs, name))

    def settings(self) -> dict[str, list[int]]:
        """By name. heisd drafts as spec_vla does: where it has no shape of its own, it has that one's."""
        found = {f"{decoder}_tree": list(self.rows[self.best(decoder)]["tree"]) for decoder in self.decoders}
        return {"heisd_tree": found["spec_vla_tree"]} | found

    def report(self) -> dict:
        """For a results file. best: as measured; best_expected: by the costs of the passes."""
        return {
            "observations": self.steps,
            "best": {decoder: self.best(decoder) for decoder in self.decoders},
            "best_expected": {decoder: self.best(decoder, self.costs) for decoder in self.decoders},
            "decoders": {name: row | {"expected_ms": expected_ms(row, self.costs, name)} for name, row in self.rows.items()},
        }

    def lines(self) -> Iterator[str]:
        """For people."""
        plain = expected_ms(self.rows["autoregressive"], self.costs, "autoregressive")
        best = {self.best(decoder) for decoder in self.decoders}
        for name, row in self.rows.items():
            mark = " <- the fastest" if name in best else ""
            yield (
                f"{name}: {row['forward_passes_per_action']:.2f} passes, {expected_ms(row, self.costs, name):.2f} ms by the costs of "
                f"its passes, {plain / expected_ms(row, self.costs, name):.2f}x; {row['latency_ms']['mean']:.2f} ms measured, "
                f"{row['mean_speedup_vs_autoregressive']:.2f}x{mark}"
            )


def measure(model: Model, steps, settings: Settings, most: int, seed: int = 0) -> Shapes:
    """Every shape in every decoder on `most` recorded steps, whole episodes from all over; steps as in calibrate()."""
    decoders = {"autoregressive": Autoregressive(model.vla)}
    shapes: dict[str, list[int]] = {}
    for name in DECODERS:
        if "database" in factory.needs(name) and model.database is None:
            continue
        for shape in SHAPES:
            variant = f"{name}@{name}_tree={'+'.join(map(str, shape))}"
            shapes[variant] = list(shape)
            tree: dict[str, Any] = {f"{name}_tree": list(shape)}
            decoders[variant] = model.decoder(name, replace(settings, **tree))
    image, instruction, _ = next(steps())
    costs = cost.measure(model.vla, model.drafter, image, instruction)
    answers = compare(Autoregressive(model.vla), decoders, spread(steps, most), seed)
    rows = summarise(answers, shapes)["decoders"]
    return Shapes(rows, costs, len(answers["autoregressive"]))


def spread(steps, most: int) -> Iterator:
    """Whole episodes from all over, about `most` steps in all."""
    lengths = [0]
    for _, _, history in steps():
        if not len(history):
            lengths.append(0)
        lengths[-1] += 1
    lengths = [length for length in lengths if length]
    order = np.random.default_rng(0).permutation(len(lengths))
    before = np.cumsum([0, *(lengths[i] for i in order)])[:-1]
    chosen, episode = set(compress(order, before < most)), -1
    left = most
    for step in steps():
        episode += not len(step[2]) or episode < 0
        if episode in chosen and left:
            left -= 1
            yield step


def expected_ms(row: dict, costs: Costs, decoder: str) -> float:
    """Mean milliseconds of an action of a results file's row, by what its passes cost."""
    times = [
        (count, costs.action(*results.read_sequence(text), tuple(row.get("tree", cost.RELEASED)), cost.reach_of(decoder)))
        for text, count in row["sequences"].items()
    ]
    return sum(count * ms for count, ms in times) / sum(count for count, _ in times)


def device_name(vla: Vla) -> str:
    """Of the device that the policy is on."""
    return torch.cuda.get_device_name(vla.device) if vla.device.type == "cuda" else results.device_name()
