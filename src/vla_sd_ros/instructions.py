# SPDX-License-Identifier: Apache-2.0
"""The sentences that a policy was trained on, as a file in its checkpoint has them: for people to choose from."""

import json
from collections.abc import Iterable
from pathlib import Path

from vla_sd_ros.checkpoint_places import SHIPPED
from vla_sd_ros.inputs import expanded

NAME = "instructions.json"  # optional; OpenVLA's checkpoints have none
MOST = 200


def write(directory: Path, sentences: Iterable[str]) -> None:
    """One sentence for each goal, in the order given."""
    (directory / NAME).write_text(json.dumps(list(dict.fromkeys(sentences)), indent=1) + "\n")


def of(checkpoint: str) -> list[str]:
    """The sentences of a checkpoint, named as for vla_node; none where it lists none, or is not on this machine."""
    try:
        found = json.loads(((expanded(checkpoint) if "/" in checkpoint else SHIPPED / checkpoint) / NAME).read_text())
    except (OSError, ValueError, RecursionError):
        return []
    return [sentence for sentence in found if isinstance(sentence, str)][:MOST] if isinstance(found, list) else []
