# SPDX-License-Identifier: Apache-2.0
"""Whether torch.compile makes the embedded policy's passes faster on a CPU: processor time of one thread, with and without.

    OMP_NUM_THREADS=1 python benchmarks/compiled.py --json benchmarks/results/compiled.json

Compiled are the vision tower with the projector, for its one shape, and a layer of the language model, for any number of inputs
and any place in the cache, because each of the passes of an action has others.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from vla_sd_ros import policy
from vla_sd_ros.bench import results
from vla_sd_ros.policy import engine
from vla_sd_ros.policy.draft import chain
from vla_sd_ros.policy.vla import Vla

INSTRUCTION = "pick up the milk and place it in the basket"


def passes(vla: Vla, repeats: int) -> dict[str, float]:
    """Median milliseconds of processor time by pass."""
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3)).astype(np.uint8)
    prompt = vla.observe(image, INSTRUCTION)
    works: dict[str, Callable] = {
        "vision and projector": lambda: vla.observe(image, INSTRUCTION),
        "prefill": lambda: vla.prefill(prompt),
        "prefill with 6 drafted": lambda: vla.prefill(prompt, chain([0] * 6)),
        "extend": lambda: vla.extend(chain([0])),
    }
    return {name: milliseconds(work, repeats) for name, work in works.items()}


def milliseconds(work: Callable, repeats: int) -> float:
    times = []
    for _ in range(5 + repeats):  # the first ones allocate, or compile
        start = time.process_time()
        work()
        times.append(1e3 * (time.process_time() - start))
    return float(np.median(times[5:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="libero")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--json", type=Path, help="write the results here")
    arguments = parser.parse_args()
    vla = policy.load(arguments.checkpoint, threads=1)
    rows = {"eager": passes(vla, arguments.repeats)}
    vla._look, engine.block = torch.compile(vla._look), torch.compile(engine.block, dynamic=True)
    rows["compiled"] = passes(vla, arguments.repeats)
    for name, before in rows["eager"].items():
        print(f"{name}: {before:.2f} ms eager, {rows['compiled'][name]:.2f} ms compiled")
    if arguments.json:
        results.write(
            arguments.json,
            {
                "device": results.device_name(),
                "commit": results.commit(),
                "command": f"python benchmarks/compiled.py --json {arguments.json}",
                "rows": rows,
            },
        )


if __name__ == "__main__":
    main()
