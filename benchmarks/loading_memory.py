# SPDX-License-Identifier: Apache-2.0
"""The host's memory that loading OpenVLA-7B for another device takes, from files of the full size.

    python benchmarks/loading_memory.py --json benchmarks/results/loading_memory.json

The files have the published tensors in bfloat16, 15 GB in four parts, but are sparse: all zeros, which take no disk. They
are read as any checkpoint is; where each tensor would be copied to a GPU, it is copied, summed and dropped.
"""

import argparse
import json
import struct
import tempfile
from math import prod
from pathlib import Path

import torch

from vla_sd_ros.bench import results
from vla_sd_ros.policy import weights
from vla_sd_ros.policy.model import VlaModel
from vla_sd_ros.policy.random_openvla import RANDOM

CONFIG, SHARDS = RANDOM["random-7b"], 4


def write_sparse(directory: Path) -> int:
    """The checkpoint's files and index; returns the bytes that they seem to have."""
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in VlaModel(CONFIG).state_dict().items()}
    names, homes, total = list(shapes), {}, 0
    for shard in range(SHARDS):
        file, header, offset = f"model-{shard + 1:05d}-of-{SHARDS:05d}.safetensors", {}, 0
        for name in names[shard * len(names) // SHARDS : (shard + 1) * len(names) // SHARDS]:
            size = 2 * prod(shapes[name])
            header[name] = {"dtype": "BF16", "shape": shapes[name], "data_offsets": [offset, offset + size]}
            offset, homes[name] = offset + size, file
        text = json.dumps(header).encode()
        with open(directory / file, "wb") as stream:
            stream.write(struct.pack("<Q", len(text)) + text)
            stream.truncate(8 + len(text) + offset)
        total += offset
    (directory / weights.INDEX).write_text(json.dumps({"weight_map": homes}))
    return total


def status(field: str) -> int:
    """Of this process [bytes]. By hand: psutil has no peak (VmHWM) that starts again."""
    return 1024 * int(dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())[field].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the results here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        size = write_sparse(Path(folder))
        weights._assign = lambda model, name, value: value.view(torch.int16).sum()
        weights.check_memory = lambda *_: None
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
        before = status("VmRSS")
        weights.read(Path(folder), CONFIG, torch.device("cpu"))
        peak = status("VmHWM")
    print(f"{size / 1e9:.1f} GB of weights: {peak / 1e9:.2f} GB of the host at most, {before / 1e9:.2f} GB before loading")
    if arguments.json:
        results.write(
            arguments.json,
            {
                "device": results.device_name(),
                "commit": results.commit(),
                "command": f"python benchmarks/loading_memory.py --json {arguments.json}",
                "weights_bytes": size,
                "before_bytes": before,
                "peak_bytes": peak,
            },
        )


if __name__ == "__main__":
    main()
