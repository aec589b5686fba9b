# SPDX-License-Identifier: Apache-2.0
"""What an adaptation is made of, so that one that is begun goes on with the same and with nothing else."""

import argparse
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vla_sd_ros.assembly.bundle import statistics_digest
from vla_sd_ros.inputs import BadInput
from vla_sd_ros.policy.checkpoint import weights_fingerprint
from vla_sd_ros.policy.vla import Vla
from vla_sd_ros.recordings import Episode
from vla_sd_ros.recordings import command as recordings_command
from vla_sd_ros.training import answers
from vla_sd_ros.training.loop import write_whole

PLAN = "plan.json"
PARTS = ("learn", "calibrate", "measure")
SAID = {
    "weights": "weights of the checkpoint",
    "unnorm_key": "--unnorm-key",
    "statistics": "action statistics",
    "recordings": "recordings",
    "every": "--most",
}


@dataclass(frozen=True)
class Parts:
    """Names of the episodes by what they are for, of one instruction each; an episode and its copies are for the same."""

    learn: set[str]
    calibrate: set[str]
    measure: set[str]

    @classmethod
    def of(cls, keys: Iterable[str], every: int) -> "Parts":
        """One in `every` is held out, half of these to calibrate on: told by a hash of what was done, wherever it lies."""
        keys = list(keys)
        different = sorted({key[:16] for key in keys})
        if len(different) < 3:
            raise BadInput(
                f"there are {len(different)} different episodes, but one to learn from, one to calibrate on and one to "
                "measure on are needed, and some hundred are good: record more, or give --include-failed"
            )
        apart = max(2, round(len(different) / every))
        roles = {key: PARTS[0] if i >= apart else PARTS[1 + i % 2] for i, key in enumerate(different)}
        return cls(*({key for key in keys if roles[key[:16]] == part} for part in PARTS))

    def among(self, episodes: Iterable[Episode], part: str) -> Iterator[tuple[str, Episode]]:
        """Those of the episodes that are for something, by their names."""
        wanted = getattr(self, part)
        return ((key, episode) for key, episode in answers.named(episodes) if key in wanted)


def plan(arguments: argparse.Namespace, vla: Vla, keys: Iterable[str], every: int) -> dict:
    """What the result depends on, beside the machine."""
    recordings = hashlib.sha256(" ".join(sorted(keys)).encode()).hexdigest()[:16]
    options = {
        name: getattr(arguments, name)
        for name in (
            "held_out",
            "copies",
            "observations",
            "tree_steps",
            "head_steps",
            "head_batch",
            "drafter_steps",
            "drafter_batch",
            "drafter_rate",
            "seed",
            "dtype",
            "quantization",
        )
    }
    reading = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in vars(recordings_command.options(arguments)).items()
    }
    return {
        "weights": weights_fingerprint(arguments.checkpoint),
        "unnorm_key": vla.unnorm_key,
        "statistics": statistics_digest(vla.statistics),
        "recordings": recordings,
        "every": every,
        **options,
        **reading,
    }


def begin(work: Path, wanted: dict) -> None:
    """Begin with this plan, or go on with it. Raises BadInput where the work was begun with another."""
    path = work / PLAN
    if not path.exists():
        write_whole(path, lambda part: part.write_text(json.dumps(wanted, indent=1) + "\n"))
        return
    try:
        begun = json.loads(path.read_text())
        changed = next((name for name in wanted if begun.get(name) != wanted[name]), "")
    except (ValueError, AttributeError) as error:
        raise BadInput(f"{path} is damaged ({error}): remove {work.parent} to begin anew") from error
    if changed:
        what = SAID.get(changed, f"--{changed.replace('_', '-')}")
        raise BadInput(f"{work.parent} was begun with other {what}: give another --output, or remove {work.parent} to begin anew")
