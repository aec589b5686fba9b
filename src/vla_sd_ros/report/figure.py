# SPDX-License-Identifier: Apache-2.0
"""The episode as one figure: path of the end effector, latency of each step by stage, gripper."""

import warnings
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from vla_sd_ros.report import fonts
from vla_sd_ros.report.bag import RecordedEpisode

VIEWS = (("from above", 1, 2), ("from the side", 1, 3), ("from the front", 2, 3))
AXES = ("time", "x", "y", "z")
STAGES = ("vision_ms", "prefill_ms", "draft_ms", "decode_ms")


def write_figure(episode: RecordedEpisode, title: str, path: Path) -> None:
    """Write the figure as PNG. Works on an empty episode too, which then shows empty axes."""
    figure = Figure(figsize=(12, 9), layout="constrained")
    FigureCanvasAgg(figure)
    # Nobody means TeX by a dollar sign in an instruction.
    figure.suptitle(title, parse_math=False, wrap=True, fontproperties=FontProperties(fname=fonts.path_for(title), size="large"))
    grid = figure.add_gridspec(3, 3, height_ratios=(2, 1.4, 1))
    start, end = _window(episode)
    commanded, measured = _cut(episode.commanded, start, end), _cut(episode.measured, start, end)
    for column, (view, i, j) in enumerate(VIEWS):
        _draw_path(figure.add_subplot(grid[0, column]), view, i, j, commanded, measured)
    _draw_latency(figure.add_subplot(grid[1, :]), [step for _, step in episode.steps])
    _draw_gripper(figure.add_subplot(grid[2, :]), episode, start, end)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # fonts.objection says it in one sentence
        figure.savefig(path, dpi=110)


def _window(episode: RecordedEpisode) -> tuple[float, float]:
    """From half a second before the first step to one second after the last [s]."""
    if not episode.steps:
        return -np.inf, np.inf
    return episode.steps[0][0] - 0.5, episode.steps[-1][0] + 1.0


def _cut(rows: np.ndarray, start: float, end: float) -> np.ndarray:
    return rows[(rows[:, 0] >= start) & (rows[:, 0] <= end)]


def _draw_path(axes, view: str, i: int, j: int, commanded: np.ndarray, measured: np.ndarray) -> None:
    axes.plot(commanded[:, i], commanded[:, j], label="commanded", linewidth=1)
    axes.plot(measured[:, i], measured[:, j], label="measured", linewidth=1)
    if len(measured):
        axes.plot(measured[0, i], measured[0, j], "o", color="black", markersize=4, label="start")
    axes.set(title=f"End effector {view}", xlabel=f"{AXES[i]} [m]", ylabel=f"{AXES[j]} [m]")
    axes.set_aspect("equal", adjustable="datalim")
    axes.grid(alpha=0.3)
    if view == VIEWS[0][0]:
        axes.legend(fontsize="small")


def _draw_latency(axes, steps: list) -> None:
    bottom = np.zeros(len(steps))
    for stage in STAGES:
        values = np.array([getattr(step, stage) for step in steps])
        axes.bar(range(1, len(steps) + 1), values, bottom=bottom, label=stage.removesuffix("_ms"), width=0.8)
        bottom += values
    if steps:
        total = [step.total_ms for step in steps]
        axes.plot(range(1, len(steps) + 1), total, "k.", markersize=4, label="total")
        axes.axhline(np.median(total), color="black", linewidth=0.8, linestyle=":")
        axes.legend(fontsize="small", ncols=5)
    axes.set(title="Latency from image in hand to seven tokens (dotted: median)", xlabel="step", ylabel="[ms]")


def _draw_gripper(axes, episode: RecordedEpisode, start: float, end: float) -> None:
    if len(episode.gripper):
        last = episode.measured[-1, 0] if len(episode.measured) else episode.gripper[-1, 0]
        times = np.append(episode.gripper[:, 0], last)
        axes.step(times, np.append(episode.gripper[:, 1], episode.gripper[-1, 1]), where="post", label="commanded")
    if episode.steps:
        axes.plot([time for time, _ in episode.steps], [step.action[6] for _, step in episode.steps], ".", label="decided")
        axes.set_xlim(start, end)
        axes.legend(fontsize="small")
    axes.set(title="Gripper", xlabel="time [s]", ylabel="opening 0..1", ylim=(-0.1, 1.1))
