# SPDX-License-Identifier: Apache-2.0
"""The runs of a folder, as `vla-sd demo` leaves them: what their summaries say, and their videos. No ROS in here."""

import math
from pathlib import Path

from vla_sd_ros.runs import read_summary

MOST = 100  # runs that are shown, the newest first
FILES = ("video.mp4", "report.png", "summary.json")  # those that may be asked for
SHOWN = ("instruction", "success", "termination_reason", "error_msg", "steps", "elapsed", "started")


def listed(folder: Path) -> list[dict]:
    """The newest runs. One whose summary cannot be read is there with the reason."""
    try:
        runs = [path for path in folder.iterdir() if path.is_dir() and any((path / name).is_file() for name in FILES)]
    except OSError:  # nothing was recorded yet
        return []
    return [_run(path) for path in sorted(runs, key=lambda path: path.name, reverse=True)[:MOST]]


def file(folder: Path, run: str, name: str) -> Path | None:
    """The path of a run's file; None for what is none, or lies elsewhere."""
    path = folder / run / name
    inside = name in FILES and run not in ("", ".", "..") and "/" not in run and "\0" not in run
    return path if inside and path.is_file() and path.resolve().is_relative_to(folder.resolve()) else None


def _run(path: Path) -> dict:
    found: dict = {"name": path.name, "files": [name for name in FILES if (path / name).is_file()], "problem": ""}
    try:
        summary = read_summary(path)
        found |= {key: value for key in SHOWN if _plain(value := summary.get(key))}
    except ValueError as error:
        found["problem"] = f"its summary cannot be read: {error}"
    return found


def _plain(value: object) -> bool:
    """Whether a browser can show it; JSON there knows no NaN."""
    return isinstance(value, (str, bool, int)) or isinstance(value, float) and math.isfinite(value)
