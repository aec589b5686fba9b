# SPDX-License-Identifier: Apache-2.0
"""What a fleet needs: GPUs, network, database, computed from what is committed. Writes the tables of docs/scale.md.

python benchmarks/scale.py
"""

import json
import math
from dataclasses import replace
from pathlib import Path

import json_numpy
import numpy as np

from vla_sd_ros.bench.cost import Costs
from vla_sd_ros.bench.price import INSTRUCTION, PROFILES, Played, read_actions
from vla_sd_ros.bench.project import DEVICES, STEP, TEXT, Device, Sizes, project, roofline
from vla_sd_ros.decoding.decision import STAGES, Decision, PassRecord
from vla_sd_ros.decoding.methods.fused import AHEAD
from vla_sd_ros.policy.random_openvla import RANDOM
from vla_sd_ros.retrieval.index import EF_SEARCH, EXACT_LIMIT
from vla_sd_ros.serving.requests import EXTENSION
from vla_sd_ros.serving.service import BATCH_WAIT, openpi_answer
from vla_sd_ros.serving.wire import pack

ROOT = Path(__file__).parents[1]
PAGE, RESULTS = ROOT / "docs" / "scale.md", ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- made by benchmarks/scale.py -->", "<!-- end -->"

ARMS, RATE = 100, 5.0  # of the fleet; actions a second of each
HEADROOM = 0.6  # share of its time that a GPU may be busy
NETWORK = 10.0  # ms of the control period for the image to come and the action to go
SERVERS, ON_ARM = ("h200", "h100", "a100", "4090"), ("thor", "orin")
ALONE = ("spec_vla", "kerv", "heisd")  # these draft, and are decided one at a time
TOGETHER = ("autoregressive", "prefill", "prefill_jacobi", "fused")
BATCHES = (1, 2, 4, 8)
SECONDS = 10  # of the queue that is played
PACKET = 1538 / 1448  # bytes on Ethernet for one of the message's
DEMONSTRATIONS, STEPS = 50, 150  # of a task; of a demonstration
LINKS = 2 * 16  # of a vector in the lowest layer of the graph


class Gpu:
    """What rounds of recorded actions cost on a device [ms], where up to `most` share the passes (serving/rounds.py)."""

    def __init__(self, device: Device, sizes: Sizes, preparing: float, most: int):
        self.sizes, self.preparing = sizes, preparing
        self.costs: Costs = roofline(device, sizes)
        self.looks = [0.0] + [
            roofline(device, replace(sizes, image_tokens=n * sizes.image_tokens)).vision for n in range(1, most + 1)
        ]

    def round(self, actions: list[Played]) -> float:
        """One look and one prefill of those that need it, then a pass of all that go on; each is as wide as the widest draft."""
        looking = sum(action.path != AHEAD for action in actions)
        outside = self.preparing * looking + sum(STEP for action in actions if action.path != "autoregressive")
        if len(actions) == 1:
            return outside + self.costs.action(actions[0].path, actions[0].passes, actions[0].tree, actions[0].reach)
        total = outside + self.looks[looking]
        for turn in range(max(len(action.passes) for action in actions)):
            passes = [action.passes[turn] for action in actions if len(action.passes) > turn]
            for kind, own in (("prefill", self.sizes.image_tokens + TEXT), ("extend", 1)):
                drafts = [drafted for what, drafted, _ in passes if what == kind]
                if drafts:
                    total += self.costs.extend(len(drafts) * (own + max(drafts)))
        return total


def answers(gpu: Gpu, actions: list[Played], arms: int, batch: int) -> np.ndarray:
    """Milliseconds from each request to its answer: arms ask at RATE, out of step with each other, and one server answers."""
    rng, period = np.random.default_rng(0), 1e3 / RATE
    asked = sorted(phase + turn * period for phase in rng.uniform(0.0, period, arms) for turn in range(int(SECONDS * RATE)))
    waits, first, free = [], 0, 0.0
    while first < len(asked):
        begin = max(free, asked[first])
        if batch > 1:
            full = asked[first + batch - 1] if first + batch <= len(asked) else math.inf
            begin = max(begin, min(begin + 1e3 * BATCH_WAIT, full))
        last = min(first + batch, int(np.searchsorted(asked, begin, "right")))
        free = begin + gpu.round([actions[i] for i in rng.integers(len(actions), size=last - first)])
        waits += [free - one for one in asked[first:last]]
        first = last
    return np.array(waits)


def carried(device: Device, sizes: Sizes, preparing: float, actions: list[Played], batch: int) -> tuple[int, float]:
    """Arms that a GPU carries, and the p95 of their answers [ms]: within the headroom, and p95 within the control period.

    None where they could not fill a batch, since an arm has one request at a time.
    """
    gpu, rng = Gpu(device, sizes, preparing, batch), np.random.default_rng(0)
    full = np.mean([gpu.round([actions[i] for i in rng.integers(len(actions), size=batch)]) for _ in range(500)])
    arms = min(ARMS, int(HEADROOM * batch * 1e3 / full / RATE))
    while arms >= batch:
        p95 = float(np.percentile(answers(gpu, actions, arms, batch), 95))
        if p95 + NETWORK <= 1e3 / RATE:
            return arms, p95
        arms -= 1
    return 0, math.nan


def gpus(actions: dict[str, list[Played]], sizes: Sizes, preparing: float) -> list[str]:
    """A row a decoder: how many of each GPU, with the batch that needs the fewest."""
    lines = ["| decoder | " + " | ".join(DEVICES[key].name for key in SERVERS) + " |", "|---" * (len(SERVERS) + 1) + "|"]
    for name in (*TOGETHER, *ALONE):
        cells = []
        for key in SERVERS:
            found = [
                (*carried(DEVICES[key], sizes, preparing, actions[name], batch), batch)
                for batch in (BATCHES if name in TOGETHER else (1,))
            ]
            arms, p95, batch = max(found, key=lambda one: (one[0], -one[2]))
            cells.append(f"**{math.ceil(ARMS / arms)}**; {arms} arms, batch {batch}, {p95:.0f} ms" if arms else "-")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def on_arm(actions: dict[str, list[Played]], sizes: Sizes, preparing: float) -> list[str]:
    """A row a decoder: whether a computer on each arm keeps up."""
    lines = ["| decoder | " + " | ".join(DEVICES[key].name for key in ON_ARM) + " |", "|---" * (len(ON_ARM) + 1) + "|"]
    rows = {key: project({name: actions[name] for name in (*TOGETHER, *ALONE)}, DEVICES[key], sizes) for key in ON_ARM}
    for name in (*TOGETHER, *ALONE):
        times = [rows[key][name]["latency_ms"]["p95"] + preparing for key in ON_ARM]
        lines.append(f"| {name} | " + " | ".join(f"{'yes' if ms <= 1e3 / RATE else 'no'}, {ms:.0f} ms" for ms in times) + " |")
    return lines


def network() -> list[str]:
    """A row an encoding: what a step is, an arm needs, the fleet needs."""
    lines = ["| image | bytes a step | Mbit/s an arm | Gbit/s the fleet |", "|---" * 4 + "|"]
    jpeg = (ROOT / "src" / "vla_sd_ros" / "example.jpg").stat().st_size * (640 * 480) // (480 * 480)
    rows = {
        "640 x 480, `vla_node` to `vla-sd serve`": ours(480, 640),
        "640 x 480, `POST /act`": act(480, 640),
        "256 x 256, `vla_node` to `vla-sd serve`": ours(256, 256),
        "224 x 224, `vla_node` to `vla-sd serve`": ours(224, 224),
        "640 x 480 as JPEG, a compressed topic to `vla_node` on the GPU's machine": jpeg,
    }
    for name, size in rows.items():
        rate = 8 * size * PACKET * RATE
        lines.append(f"| {name} | {size:,} | {rate / 1e6:.1f} | {ARMS * rate / 1e9:.2f} |")
    return lines


def ours(height: int, width: int) -> int:
    """Bytes that vla_node sends for an image."""
    pose = {"position": np.zeros(3), "rotation": np.eye(3)}
    return len(
        pack(
            {
                "observation/image": np.zeros((height, width, 3), np.uint8),
                "prompt": INSTRUCTION,
                EXTENSION: {"step": 100, "follows": True, **pose},
            }
        )
    )


def act(height: int, width: int) -> int:
    """Bytes that a client of OpenVLA sends for an image."""
    return len(json_numpy.dumps({"image": np.zeros((height, width, 3), np.uint8), "instruction": INSTRUCTION}))


def answer() -> int:
    """Bytes that come back."""
    passes = tuple(PassRecord(*one) for one in PROFILES["prefill, 3 accepted"][1])
    return len(
        pack(openpi_answer(Decision(np.full(7, 128), np.zeros(7), "prefill", "prefill", dict.fromkeys(STAGES, 1.0), passes)))
    )


def database(width: int) -> list[str]:
    """A row a number of tasks: steps and bytes; and what queries read at most."""
    step = 4 * (width + 7 + 3 * 7 + 2)  # features, action, the next three, episode and number (retrieval/database.py)
    lines = [
        f"A step has {step:,} bytes: {width} numbers of features, and its actions.",
        "",
        "| tasks | steps | size [GB] |",
        "|---" * 3 + "|",
    ]
    for tasks in (10, 100, 1000):
        steps = tasks * DEMONSTRATIONS * STEPS
        lines.append(f"| {tasks} | {steps:,} | {steps * step / 1e9:.1f} |")
    partition, asked = DEMONSTRATIONS * STEPS, ARMS * RATE
    visited = min(partition, EF_SEARCH * LINKS)
    used = "the graph" if partition * width > EXACT_LIMIT else "the exact product"
    lines += [
        "",
        f"Each of {asked:.0f} queries a second is about one task, of {partition:,} steps, where {used} answers: it reads at "
        f"most {visited:,} vectors, {4e-6 * visited * width:.0f} MB (the exact product all, {4e-6 * partition * width:.0f} MB), "
        f"which makes {4e-9 * visited * width * asked:.0f} GB/s of memory for the fleet. On a server of its own the queries are "
        f"{8e-6 * 4 * width * asked * PACKET:.0f} Mbit/s.",
    ]
    return lines


def tables() -> list[str]:
    """The lines between the marks."""
    config, source = RANDOM["random-7b"], json.loads((RESULTS / "projected.json").read_text())["of"]
    sizes, actions = Sizes.of(config), read_actions(ROOT / source)
    actions["autoregressive"] = [Played(*PROFILES["autoregressive"])]
    preparing = json.loads((RESULTS / "preprocessing.json").read_text())["rows"]["the JPEG round trip alone"]["median_ms"]
    return [
        f"### GPUs for {ARMS} arms at {RATE:g} Hz",
        "",
        "How many; how many arms each carries, the batch (`--batch`) that carries the most, and the p95 of the answers then.",
        "",
        *gpus(actions, sizes, preparing),
        "",
        "### A computer on each arm instead",
        "",
        f"Whether it keeps {RATE:g} Hz, by the p95 of an action.",
        "",
        *on_arm(actions, sizes, preparing),
        "",
        "### Network",
        "",
        *network(),
        "",
        f"An answer has {answer()} bytes.",
        "",
        "### Trajectory database",
        "",
        *database(config.vision.width),
        "",
    ]


def main() -> None:
    before, rest = PAGE.read_text().split(BEGIN)
    print("\n".join(made := tables()))
    PAGE.write_text(f"{before}{BEGIN}\n" + "\n".join(made) + END + rest.split(END, 1)[1])


if __name__ == "__main__":
    main()
