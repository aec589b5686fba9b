# SPDX-License-Identifier: Apache-2.0
"""Writes the tables of docs/benchmarks.md, and the plots beside it, from benchmarks/results/*.json.

python benchmarks/decoders.py
"""

import json
import re
from functools import cache
from itertools import cycle
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

from vla_sd_ros.bench.price import actions_of  # noqa: E402
from vla_sd_ros.bench.project import DEVICES, Sizes, rows_of  # noqa: E402
from vla_sd_ros.policy.actions import DIMENSIONS  # noqa: E402
from vla_sd_ros.policy.random_openvla import RANDOM  # noqa: E402

ROOT = Path(__file__).parents[1]
RESULTS, DOCS = ROOT / "benchmarks" / "results", ROOT / "docs"
PAGE = DOCS / "benchmarks.md"
BEGIN, END = "<!-- made by benchmarks/decoders.py -->", "<!-- end -->"


def read(pattern: str) -> dict[str, dict]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob(pattern))}


def number(value, form: str) -> str:
    return "-" if value is None else format(value, form)


def closed_loop(report: dict) -> list[str]:
    """Success beside speed and what arm_node would make of the actions, a row a decoder."""
    lines = [
        "| decoder | success | 95 % interval | median [ms] | mean | p95 | x AR, medians | means | x naive SD, medians "
        "| projected 4090: mean [ms] | its x AR, means | commands shortened | jerk, RMS / p95 [m/s^3] | passes | accepted "
        "| / floor | paths |",
        "|---" * 17 + "|",
    ]
    projections = rows_of(actions_of(report["decoders"]), DEVICES["4090"], openvla())
    for name, row in report["decoders"].items():
        low, high = row["ci95"]
        paths = ", ".join(f"{path} {share:.0%}" for path, share in row["paths"].items())
        median, there, jerk = row["latency_ms"]["median"], projections.get(name, {}), row.get("jerk_m_per_s3", {})
        lines.append(
            f"| {name} | {row['success_rate']:.0%} | {low:.0%} to {high:.0%} | {median:.1f} | {row['latency_ms']['mean']:.1f} "
            f"| {row['latency_ms']['p95']:.1f} | {number(row['speedup_vs_autoregressive'], '.2f')} "
            f"| {number(row['mean_speedup_vs_autoregressive'], '.2f')} | {number(row.get('speedup_vs_naive_sd'), '.2f')} "
            f"| {number(there.get('latency_ms', {}).get('mean'), '.1f')} "
            f"| {number(there.get('mean_speedup_vs_autoregressive'), '.2f')} | {number(row.get('commands_shortened'), '.1%')} "
            f"| {number(jerk.get('rms'), '.0f')} / {number(jerk.get('p95'), '.0f')} "
            f"| {row['forward_passes_per_action']:.2f} | {row['accepted_length']:.2f} | {median / report['floor_ms']:.2f} | {paths} |"
        )
    return lines


@cache
def openvla() -> Sizes:
    """What the passes that were recorded are projected to."""
    return Sizes.of(RANDOM["random-7b"])


def title(name: str, report: dict) -> str:
    """What was run closed loop, of the name of a results file and what it says."""
    about, seed = [report["suite"]], report.get("seed")
    if report.get("places") == "random":
        about.append(f"all objects in random places (seed {seed}), the one that is asked for where training never puts it")
    elif seed:
        about.append(f"objects shifted by up to 2 cm (seed {seed})")
    if threads := re.search(r"(?<=_)[a-z0-9]+_threads?(?=_|$)", name):
        about.append(f"one process of {threads[0].replace('_', ' ')}")
    return f"{', '.join(about)}, {report['episodes']} episodes a decoder; floor {report['floor_ms']:.1f} ms"


def suite_of(file: str) -> str:
    """The suite of a results file or a trace, as a projection names it; empty where that is not here."""
    path = ROOT / file
    if not path.exists():
        return ""
    text = path.read_text()
    return json.loads(text.splitlines()[0] if path.suffix == ".jsonl" else text).get("suite", "")


def same_observations(report: dict) -> list[str]:
    """The same images through every decoder, a row a decoder."""
    lines = [
        "| decoder | median [ms] | mean | p95 | x AR, medians | means | passes | accepted | same tokens as AR | vision | prefill "
        "| draft | decode [ms] |",
        "|---" * 13 + "|",
    ]
    for name, row in report["decoders"].items():
        stages = " | ".join(f"{row['stages_ms'][stage]:.2f}" for stage in ("vision", "prefill", "draft", "decode"))
        lines.append(
            f"| {name} | {row['latency_ms']['median']:.2f} | {row['latency_ms']['mean']:.2f} | {row['latency_ms']['p95']:.2f} "
            f"| {number(row['speedup_vs_autoregressive'], '.2f')} "
            f"| {number(row['mean_speedup_vs_autoregressive'], '.2f')} | {row['forward_passes_per_action']:.2f} "
            f"| {row['accepted_length']:.2f} | {row['same_tokens']:.1%} | {stages} |"
        )
    return lines


def drafts(report: dict) -> list[str]:
    """How near the drafts come, a row a source."""
    radii = list(next(iter(report["drafts"].values()))["within"])
    lines = ["| draft | " + " | ".join(f"r = {r}" for r in radii) + " | by dimension, r = 9 |", "|---" * (len(radii) + 2) + "|"]
    for source, row in report["drafts"].items():
        cells = " | ".join(f"{row['within'][r]:.2f}/{row['prefix'][r]:.2f}" for r in radii)
        lines.append(f"| {source} | {cells} | " + " ".join(f"{x:.2f}" for x in row["by_dimension"]) + " |")
    return lines


def source_of(report: dict) -> str:
    return f"`{report['command']}` at {report['commit']} on {report['device']}"


def plot(name: str, report: dict) -> str:
    """Success against latency, path shares, acceptance by position and along the episode, as Markdown that shows them."""
    rows = report["decoders"]
    colours = dict(zip(rows, cycle(plt.get_cmap("tab20").colors)))
    figure, ((left, right), (positions, course)) = plt.subplots(2, 2, figsize=(13, 11))
    handles = []
    for decoder, row in rows.items():
        low, high = row["ci95"]
        rate, median = row["success_rate"], row["latency_ms"]["median"]
        handles.append(
            left.errorbar(
                median,
                100 * rate,
                [[100 * max(rate - low, 0)], [100 * max(high - rate, 0)]],
                fmt="o",
                capsize=2,
                color=colours[decoder],
            )
        )
        if any(row["accepted_by_position"]):
            positions.plot(DIMENSIONS, row["accepted_by_position"], "o-", color=colours[decoder])
        tenths = [10 * tenth + 5 for tenth in range(len(row["along"]["passes"]))]
        course.plot(tenths, row["along"]["passes"], color=colours[decoder])
    left.axvline(report["floor_ms"], linestyle=":", color="grey")
    left.set(xlabel="median latency of one action [ms], dotted: vision + one prefill", ylabel="success [%]")
    positions.set(ylabel="share of the steps in which this token is an accepted draft", ylim=(0, 1))
    course.set(xlabel="part of the episode [%]", ylabel="forward passes per action", ylim=(0, 7.2))
    plot_paths(right, rows)
    figure.legend(handles, rows, loc="lower center", ncols=4, fontsize=8)
    figure.tight_layout(rect=(0, 0.09, 1, 1))
    figure.savefig(DOCS / f"{name}.png", dpi=110)
    plt.close(figure)
    return f"![{name}]({name}.png)"


def plot_paths(axis: plt.Axes, rows: dict[str, dict]) -> None:
    """How often each decoder took which path."""
    start = [0.0] * len(rows)
    for path in sorted({path for row in rows.values() for path in row["paths"]}):
        shares = [row["paths"].get(path, 0.0) for row in rows.values()]
        axis.barh([decoder.replace("@", "\n") for decoder in rows], shares, left=start, label=path)
        start = [a + b for a, b in zip(start, shares)]
    axis.invert_yaxis()
    axis.set(xlabel="share of the steps")
    axis.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=6)
    axis.tick_params(labelsize=7)


def ablations(report: dict) -> list[str]:
    """What each part is worth, a row a part."""
    lines = ["| decoder | without | median [ms] | passes | accepted | bins from the verifier's | paths |", "|---" * 7 + "|"]
    for row in report["ablations"]:
        paths = ", ".join(f"{path} {share:.0%}" for path, share in row["paths"].items())
        lines.append(
            f"| {row['decoder']} | {row['without']} | {row['latency_ms']['median']:.1f} | {row['forward_passes_per_action']:.2f} "
            f"| {row['accepted_length']:.2f} | {row['bins_off']:.2f} | {paths} |"
        )
    return lines


def plot_sweeps(name: str, report: dict) -> str:
    """Passes and distance from the verifier over each setting; returns the Markdown that shows it."""
    panels: dict[tuple[str, str], list[dict]] = {}
    for row in report["sweeps"]:
        panels.setdefault((row["decoder"], row["setting"]), []).append(row)
    columns = 4
    figure, axes = plt.subplots(-(-len(panels) // columns), columns, figsize=(14, 3.2 * -(-len(panels) // columns)))
    for axis, ((decoder, setting), rows) in zip(axes.flat, panels.items()):
        places = range(len(rows))
        axis.plot(places, [row["forward_passes_per_action"] for row in rows], "o-", label="passes per action")
        axis.set_xticks(places, [f"{row['value']:g}" for row in rows])
        axis.set(title=decoder, xlabel=setting, ylabel="passes per action", ylim=(0, 7.2))
        other = axis.twinx()
        other.plot(places, [row["bins_off"] for row in rows], "s--", color="tab:orange")
        other.set_ylabel("bins from the verifier's", color="tab:orange")
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(DOCS / f"{name}.png", dpi=110)
    plt.close(figure)
    return f"![{name}]({name}.png)"


def prices(report: dict) -> list[str]:
    """What passes and whole actions cost beside the device's floor, a row each."""
    floor = report["floor"]
    lines = [
        f"Floor: {floor['single_pass_ms']:.1f} ms a single pass, {floor['autoregressive_ms']:.1f} ms autoregressive (reads "
        f"{floor['read_gb_per_s']:.1f} GB/s, multiplies {floor['tflops']:.2f} TFLOP/s).",
        "",
        "| | median [ms] |",
        "|---|---|",
    ]
    lines += [f"| action, {name} | {row['latency_ms']['median']:.1f} |" for name, row in report["decoders"].items()]
    passes = report["passes_ms"] | report.get("transformers_ms", {})
    lines += [f"| {name} | {median:.1f} |" for name, median in passes.items()]
    for rows, row in report.get("batches", {}).items():
        lines += [
            f"| {rows} robots at once, {name} | {row[key]:.1f} |"
            for name, key in (("single pass", "single_pass_ms"), ("autoregressive", "autoregressive_ms"))
        ]
    if "same_tokens_as_unquantised" in report:
        lines += ["", f"Same tokens as unquantised: {report['same_tokens_as_unquantised']:.1%}."]
    return lines


def quantised(reports: dict[str, dict]) -> list[str]:
    """How much of the unquantised policy stays, a row a kind; no latency, which on a CPU says nothing of a GPU."""
    lines = ["| layers | same tokens | within 9 bins, by dimension | observations | from |", "|---" * 5 + "|"]
    for report in reports.values():
        row = report["decoders"]["autoregressive"]
        near = " ".join(f"{share:.2f}" for share in row["near_tokens"])
        lines.append(
            f"| {report['quantization']} | {row['same_tokens']:.1%} | {near} | {report['observations']} | {source_of(report)} |"
        )
    return lines


def shapes(report: dict) -> list[str]:
    """What each shape of the drafter's tree costs in each decoder, a row a shape."""
    best, plain = set(report["best"].values()), report["decoders"]["autoregressive"]
    lines = [
        "| decoder | nodes / levels / continuations | passes | accepted | bins off | ms by its passes | x AR | ms measured "
        "| x AR |",
        "|---" * 9 + "|",
    ]
    for name, row in report["decoders"].items():
        tree = "/".join(map(str, row["tree"])) if "tree" in row else "-"
        mark = "**" if name in best else ""
        lines.append(
            f"| {name.partition('@')[0]} | {mark}{tree}{mark} | {row['forward_passes_per_action']:.2f} "
            f"| {row['accepted_length']:.2f} | {row['bins_off']:.2f} | {row['expected_ms']:.2f} "
            f"| {plain['expected_ms'] / row['expected_ms']:.2f} "
            f"| {row['latency_ms']['mean']:.2f} | {row['mean_speedup_vs_autoregressive']:.2f} |"
        )
    told = report["threshold"]
    return [
        *lines,
        "",
        f"KERV's threshold: at r_max the tokens of {told['harmless']:.0%} of {told['steps']} steps are within r_min of "
        f"autoregressive decoding's. Which steps these are, the change of K_var tells by {told['gain']:+.3f} nats a step beside "
        f"that share alone (K_S = {told['scale']:g}, phi = {told['exponent']:g}).",
    ]


def thresholds(report: dict) -> list[str]:
    """KERV's dynamic threshold beside fixed ones, a row a radius."""
    lines = ["| threshold | passes | accepted | bins off | same tokens as AR |", "|---" * 5 + "|"]
    for name, row in report["decoders"].items():
        if name != "autoregressive":
            own = name.partition("@")[2].replace("@", ", ").replace("kerv_mode=fixed, relaxed_radius=", "fixed, r = ")
            lines.append(
                f"| {own or 'K_var, as calibrated'} | {row['forward_passes_per_action']:.2f} | {row['accepted_length']:.2f} "
                f"| {row['bins_off']:.2f} | {row['same_tokens']:.1%} |"
            )
    return lines


def projected(report: dict) -> list[str]:
    """What the recorded passes would cost, a row a decoder, a column a device."""
    devices = report["projected"]
    titles = " | ".join(entry["device"]["name"] for entry in devices.values())
    lines = [f"| decoder | {titles} |", "|---" * (len(devices) + 1) + "|"]
    for name, row in next(iter(devices.values()))["decoders"].items():
        cells = []
        for entry in devices.values():
            row = entry["decoders"][name]
            ms, tree = row["latency_ms"], f" ({'/'.join(map(str, row['tree']))})" if "tree" in row else ""
            cells.append(
                f"{ms['mean']:.1f}, {ms['median']:.1f}, {ms['p95']:.1f} ms; "
                f"**{row['mean_speedup_vs_autoregressive']:.2f}x**; {row['control_rate_hz']:.1f} Hz{tree}"
            )
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for entry in devices.values():
        if entry["sanity"]:
            lines += ["", f"{entry['device']['name']}: {entry['sanity']}."]
        lines += [
            f"{name} on {entry['device']['name']}: {row['projected_ms']:.1f} ms by its floors, {row['measured_ms']:.1f} "
            f"measured ({row['error']:+.0%})."
            for name, row in entry["errors"].items()
        ]
    return lines


def preprocessing(report: dict) -> list[str]:
    lines = ["| OpenVLA's image from 640x480 | median [ms] | p95 [ms] | processor [ms] |", "|---|---|---|---|"]
    return lines + [
        f"| {name} | {row['median_ms']:.2f} | {row['p95_ms']:.2f} | {row['processor_ms']:.2f} |"
        for name, row in report["rows"].items()
    ]


def tables() -> list[str]:
    """All of the page between its two marks; makes the plots, too."""
    lines = []
    for name, report in read("decoders_*.json").items():
        lines += [f"### {title(name, report)}", "", *closed_loop(report), "", plot(name, report), "", source_of(report), ""]
    for report in read("decode_*.json").values():
        about = f"{report['observations']} recorded observations; floor {report['floor_ms']:.2f} ms"
        lines += [f"### {about}", "", *same_observations(report), "", source_of(report), ""]
    for report in read("projected*.json").values():
        lines += [
            f"### Projected to GPUs at 7 B parameters, {suite_of(report['of']) or report['of']}",
            "",
            f"From `{report['of']}`. Mean, median, p95; x AR by means; the control rate that p95 allows; in brackets the drafter's tree.",
            "",
            *projected(report),
            "",
            source_of(report),
            "",
        ]
    for report in read("trees_*.json").values():
        lines += [
            f"### The shape of the drafter's tree, {report['observations']} recorded observations",
            "",
            *shapes(report),
            "",
            source_of(report),
            "",
        ]
    for report in read("threshold_*.json").values():
        lines += [
            f"### KERV's threshold, {report['observations']} recorded observations",
            "",
            *thresholds(report),
            "",
            source_of(report),
            "",
        ]
    for name, report in read("drafts_*.json").items():
        observes = ", the Kalman filter on measured motion" if "measured" in name else ""
        lines += [
            f"### Drafts on {report['observations']} observations{observes}",
            "",
            "Fraction of tokens within r bins of the verifier's / mean accepted prefix of 7.",
            "",
            *drafts(report),
            "",
            source_of(report),
            "",
        ]
    for name, report in read("sweeps.json").items():
        lines += [
            f"### Each part switched off, on {report['observations']} observations",
            "",
            *ablations(report),
            "",
            "### Each setting over a range",
            "",
            plot_sweeps(name, report),
            "",
            source_of(report),
            "",
        ]
    for report in read("added_cost.json").values():
        parts = ", ".join(f"{part} {median:.2f}" for part, median in report["parts_median_ms"].items())
        lines += [
            f"### Cost of a step outside of the model, {report['vectors']} vectors",
            "",
            f"{report['together_ms']['median']:.2f} ms median, {report['together_ms']['p95']:.2f} ms p95; medians of the parts [ms]: "
            f"{parts}. `python benchmarks/added_cost.py --json benchmarks/results/added_cost.json` at {report['commit']} on "
            f"{report['device']}",
            "",
        ]
    for report in read("price_*.json").values():
        lines += [f"### Passes of {report['checkpoint']} in {report['dtype']}", "", *prices(report), "", source_of(report), ""]
    if reports := read("quantization_*.json"):
        lines += ["### Quantised layers of the embedded policy, both decoding autoregressively", "", *quantised(reports), ""]
    for report in read("preprocessing.json").values():
        lines += ["### Preparing an image", "", *preprocessing(report), "", source_of(report), ""]
    for report in read("compiled.json").values():
        lines += ["### torch.compile on a CPU", "", "| processor time of one thread [ms] | eager | compiled |", "|---|---|---|"]
        lines += [
            f"| {name} | {before:.2f} | {report['rows']['compiled'][name]:.2f} |"
            for name, before in report["rows"]["eager"].items()
        ]
        lines += ["", source_of(report), ""]
    for report in read("loading_memory.json").values():
        lines += [
            "### Loading the 7B model for another device",
            "",
            f"{report['weights_bytes'] / 1e9:.1f} GB of weights, read from files of that size: {report['peak_bytes'] / 1e9:.2f} "
            f"GB of the host at most, of which the libraries had {report['before_bytes'] / 1e9:.2f} GB before. "
            f"{source_of(report)}",
            "",
        ]
    return lines


def main() -> None:
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n" + "\n".join(tables()) + END + rest.split(END, 1)[1])


if __name__ == "__main__":
    main()
