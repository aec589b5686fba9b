# SPDX-License-Identifier: Apache-2.0
"""Folders of runs, one a goal, named for the time, and what their summaries say."""

import json
from datetime import datetime
from pathlib import Path

from vla_sd_ros.inputs import BadInput

SUMMARY = "summary.json"
LARGEST = 1 << 20  # bytes of a summary; ours have a few thousand


def new_run_folder(output: Path) -> Path:
    """A new folder below `output`, named for the time. Raises BadInput where it cannot be made."""
    stem = output / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for folder in [stem, *(Path(f"{stem}_{i}") for i in range(2, 100))]:
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            if not folder.is_dir():
                raise BadInput(f"{folder} cannot be made: there is a file; give another --output-dir") from None
        except OSError as error:
            raise BadInput(f"{folder} cannot be made: {error.strerror}; give another --output-dir") from error
    raise BadInput(f"{stem} exists already")


def read_summary(run: Path) -> dict:
    """What the summary of a run says. Raises ValueError, with the reason, where there is none or it is not ours."""
    path = run / SUMMARY
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError("it is too large")
        summary = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(error.strerror) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(summary, dict):
        raise ValueError("it is no table of names and values")
    return summary
