# SPDX-License-Identifier: Apache-2.0
"""Where a checkpoint is, and of what kind, found out without torch: for what is checked before anything is loaded."""

import json
from pathlib import Path

from vla_sd_ros.inputs import BadInput, expanded

SHIPPED = Path(__file__).with_name("checkpoints")
EMBEDDED, OPENVLA = "vla_sd_embedded", "openvla"  # model_type in config.json
RANDOM_NAMES = ("random-7b", "random-tiny-openvla")  # stand for a model of OpenVLA's kind whose weights are made when it is loaded


class CheckpointError(BadInput):
    """A checkpoint that cannot be used; the message is one sentence that says why and what to do."""


def shipped() -> list[str]:
    """Names of the checkpoints that come with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob("*/config.json"))


def is_path(source: str | Path) -> bool:
    """Whether a directory or file is meant, and not a name: ./libero, not libero, which is always the shipped one."""
    return isinstance(source, Path) or "/" in source or source in (".", "..", "~")


def absolute(source: str) -> str:
    """The same checkpoint, bundle, database or drafter, wherever the current folder is; a name stays one."""
    return str(expanded(source).absolute()) if is_path(source) else source


def find(checkpoint: str | Path) -> Path:
    """The directory of a checkpoint, given as a path or by the name of a shipped one. Raises CheckpointError."""
    directory = expanded(checkpoint) if is_path(checkpoint) else SHIPPED / checkpoint
    if str(checkpoint) and directory.is_dir():
        return directory
    hint = f"; for the directory that is here give ./{checkpoint}" if Path(checkpoint).is_dir() and str(checkpoint) else ""
    raise CheckpointError(
        f"checkpoint {str(checkpoint)!r} was not found: give a checkpoint directory, as a path with a / in it, or one of the "
        f"shipped ones ({', '.join(shipped()) or 'none in this installation'}){hint}"
    )


def refuse_unusable(checkpoint: str, real_arm: bool) -> None:
    """Raises CheckpointError for one that is not there, or that no real arm has taught anything where a real arm follows."""
    kind = "random weights" if checkpoint in RANDOM_NAMES else _kind(find(checkpoint) / "config.json", checkpoint)
    if real_arm and kind != OPENVLA:
        raise CheckpointError(
            f"checkpoint {checkpoint!r} is {'a policy of the simulator' if kind == EMBEDDED else kind}, which a real arm must not "
            "follow: give the policy that was trained for this arm with policy.checkpoint and policy.unnorm_key "
            "(checkpoint:=DIRECTORY unnorm_key:=KEY of the launch file), or a simulated arm with driver:=sim"
        )


def _kind(config: Path, checkpoint: str) -> str:
    try:
        kind = json.loads(config.read_text())["model_type"]
    except OSError as error:
        raise CheckpointError(f"checkpoint {checkpoint!r}: it has no config.json that can be read ({error.strerror})") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(f"checkpoint {checkpoint!r}: config.json cannot be read, or names no model_type") from error
    if kind not in (EMBEDDED, OPENVLA):
        raise CheckpointError(
            f"checkpoint {checkpoint!r}: config.json has model_type {kind!r}; only {OPENVLA!r} and {EMBEDDED!r} can be loaded"
        )
    return kind
