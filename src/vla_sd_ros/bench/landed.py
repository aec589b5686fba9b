# SPDX-License-Identifier: Apache-2.0
"""What units of a benchmark came to, each in a file, so that one that was ended in the middle goes on where it was."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from vla_sd_ros.whole_files import whole


class Landed:
    """Rows of JSON for each unit, in a folder beside the results file, until that is there.

    results: the results file; None: nothing is kept. made_of: what the rows depend on beside the unit; with another, other files.
    """

    def __init__(self, results: Path | None, made_of: dict[str, str]):
        self._folder = results.with_name(f"{results.name}.parts") if results else None
        self._made_of = made_of

    def read(self, unit: Any) -> list[dict] | None:
        """The rows of a unit, where they have landed."""
        path = self._path(unit)
        return json.loads(path.read_text()) if path and path.exists() else None

    def write(self, unit: Any, rows: list[dict]) -> None:
        """Keep the rows of a unit; the file is whole or not there."""
        if path := self._path(unit):
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole(path) as part:
                part.write_text(json.dumps(rows))

    def remove(self) -> None:
        """Forget all: the results file is there."""
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, unit: Any) -> Path | None:
        said = hashlib.sha256(repr((unit, sorted(self._made_of.items()))).encode()).hexdigest()
        return self._folder / f"{said[:24]}.json" if self._folder else None
