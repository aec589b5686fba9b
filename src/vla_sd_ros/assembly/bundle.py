# SPDX-License-Identifier: Apache-2.0
"""What `vla-sd adapt` leaves behind for one policy, and the only place that opens it.

    bundle.json                 for which weights and statistics it was made, of which recordings, and what is in it
    draft_head.safetensors, drafter.safetensors, database/
    decoder.yaml                the decoder and its settings, as a parameter file; may be edited
    report.md, report.png       how they were found, and what they cost

It is taken whole: with other weights or other statistics its drafts would be wrong and its thresholds mean nothing.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vla_sd_ros.assembly.brain import Choice, Source
from vla_sd_ros.decoding.parameter_file import read_parameters
from vla_sd_ros.decoding.settings import DECODERS, Settings
from vla_sd_ros.inputs import BadInput, expanded
from vla_sd_ros.whole_files import whole

if TYPE_CHECKING:
    from vla_sd_ros.policy.actions import ActionStatistics  # a server's node needs no torch, which comes with it

FORMAT = 1
META, PARAMETERS, DATABASE = "bundle.json", "decoder.yaml", "database"
ADVICE = "make it with `vla-sd adapt` for this one"


class BundleError(BadInput):
    """A bundle that cannot be used, or not for this policy; one sentence says why and what to do."""


@dataclass(frozen=True)
class Bundle:
    """folder: where it is. checkpoint: name of the policy, for people; weights: fingerprint of its weights. unnorm_key,
    statistics: key of the action statistics, and a digest of them. choice: the decoder that was found best, and its settings.
    """

    folder: Path
    checkpoint: str
    weights: str
    unnorm_key: str
    statistics: str
    choice: Choice

    def complete(self, source: Source) -> Source:
        """The source with the bundle's parts where it names none of its own. Raises BundleError where they are not for it."""
        from vla_sd_ros.policy.checkpoint import weights_fingerprint

        if (own := weights_fingerprint(source.checkpoint)) != self.weights:
            raise BundleError(
                f"the bundle {self.folder} was made for the checkpoint {self.checkpoint} (weights {self.weights}), not "
                f"for {source.checkpoint} (weights {own}): {ADVICE}"
            )
        folder = str(self.folder.absolute())
        return replace(
            source,
            unnorm_key=source.unnorm_key or self.unnorm_key,
            draft_head=source.draft_head or folder,
            drafter=source.drafter or folder,
            database=source.database or f"{folder}/{DATABASE}",
        )

    def check(self, key: str, statistics: "ActionStatistics") -> None:
        """Raises BundleError where these are not the statistics that it was made with."""
        if statistics_digest(statistics) != self.statistics:
            was = f"{self.unnorm_key!r}" if key != self.unnorm_key else f"other numbers under {key!r}"
            raise BundleError(
                f"the bundle {self.folder} was made with the action statistics {was}, not with {key!r} as they are: "
                f"choose {self.unnorm_key!r} with policy.unnorm_key (--unnorm-key), or {ADVICE}"
            )


def read(folder: str | Path) -> Bundle:
    """The bundle in a folder; its files are as they were written. Raises BundleError."""
    folder = expanded(folder)
    if not (folder / META).is_file():
        unfinished = " whole" if (folder / "work").is_dir() else ""
        raise BundleError(
            f"there is no{unfinished} bundle in {folder} (no {META}): make it with `vla-sd adapt --output {folder}`, "
            "which goes on where it was interrupted"
        )
    try:
        meta = json.loads((folder / META).read_text())
        if meta["format"] != FORMAT:
            raise BundleError(f"the bundle {folder} has the format {meta['format']}, this version reads {FORMAT}: {ADVICE}")
        files = {str(name): str(digest) for name, digest in meta["files"].items()}
        bundle = Bundle(
            folder, str(meta["checkpoint"]), str(meta["weights"]), str(meta["unnorm_key"]), str(meta["statistics"]), Choice()
        )
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"{folder / META} is damaged ({error}): remove {folder} and make it again with `vla-sd adapt`") from error
    for name, digest in files.items():
        if not (folder / name).is_file() or file_digest(folder / name) != digest:
            state = "has changed since it was written" if (folder / name).is_file() else "is not there any more"
            raise BundleError(
                f"{folder / name} {state}: copy the bundle again, or remove {folder} and make it again with `vla-sd adapt`"
            )
    name, settings = read_parameters(str(folder / PARAMETERS))
    if name not in ("", *DECODERS):
        raise BundleError(
            f"{folder / PARAMETERS} names the decoder {name!r}, which does not exist: choose one of {', '.join(DECODERS)}"
        )
    return replace(bundle, choice=Choice(name or "autoregressive", Settings(**settings), bundle.unnorm_key))


def parameters(folder: str | Path) -> dict[str, object]:
    """The bundle's choice, by the names of vla_node's parameters. Raises BundleError."""
    choice = read(folder).choice
    settings = {f"decoder.{name}": value for name, value in vars(choice.settings).items()}
    return {"policy.unnorm_key": choice.unnorm_key, "decoder.name": choice.decoder, **settings}


def write(bundle: Bundle, sources: Sequence[str], about: dict) -> None:
    """Write bundle.json last: what else belongs to it lies in the folder already. about: whatever else is worth knowing."""
    parts = [
        path
        for path in sorted(bundle.folder.rglob("*"))
        if path.suffix in (".safetensors", ".npz", ".hnsw") or path.name == "meta.json"
    ]
    files = {
        str(path.relative_to(bundle.folder)): file_digest(path)
        for path in parts
        if path.relative_to(bundle.folder).parts[0] in (path.name, DATABASE)
    }
    meta = {
        "format": FORMAT,
        "checkpoint": bundle.checkpoint,
        "weights": bundle.weights,
        "unnorm_key": bundle.unnorm_key,
        "statistics": bundle.statistics,
        "sources": sources,
        "files": files,
        **about,
    }
    with whole(bundle.folder / META) as part:
        part.write_text(json.dumps(meta, indent=1) + "\n")


def statistics_digest(statistics: "ActionStatistics") -> str:
    """Sixteen hexadecimal digits that tell action statistics apart."""
    columns = [np.asarray(column, np.float64) for column in (statistics.q01, statistics.q99, statistics.mask)]
    return hashlib.sha256(np.stack(columns).tobytes()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
