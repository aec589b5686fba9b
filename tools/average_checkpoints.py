# SPDX-License-Identifier: Apache-2.0
"""Averages the weights of checkpoints of one training line (Wortsman et al., "Model soups", arXiv 2203.05482).

python tools/average_checkpoints.py second third --output averaged
"""

import argparse
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", type=Path, nargs="+", help="directories; all but the weights comes from the first")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for path in arguments.checkpoints[0].glob("*.json"):
        shutil.copy(path, arguments.output)
    for path in arguments.checkpoints[0].glob("*.safetensors"):
        states = [load_file(checkpoint / path.name) for checkpoint in arguments.checkpoints]
        mean = {name: torch.stack([state[name].float() for state in states]).mean(0) for name in states[0]}
        save_file({name: value.half().contiguous() for name, value in mean.items()}, arguments.output / path.name)


if __name__ == "__main__":
    main()
