# SPDX-License-Identifier: Apache-2.0
"""What an adaptation found, as text and as a figure."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vla_sd_ros.adapt.choice import AGREED, SKIPPED, Agreement, Row
from vla_sd_ros.bench.decode import CLOSE
from vla_sd_ros.bench.results import device_name
from vla_sd_ros.training.loop import write_whole

NOT_MEASURED = (
    "Not measured: whether the arm succeeds. What is compared here is each decoder with the policy's own greedy tokens, "
    "on recorded images. Try `autoregressive` on the arm first, then the chosen decoder, and compare."
)


@dataclass(frozen=True)
class Findings:
    """What there is to tell. units: the table of the inventory. counts: episodes by what they were for."""

    checkpoint: str
    unnorm_key: str
    sources: Sequence[str]
    units: str
    counts: dict[str, int]
    sentences: int
    every: int
    skipped: Sequence[str]
    settings: dict
    rows: Sequence[Row]
    chosen: str
    agreement: Agreement
    device: str
    projected: dict[str, dict[str, float]]

    def table(self) -> str:
        """The decoders as measured, as text."""
        head = f"{'decoder':<18}{'median':>10}{'mean':>10}{'passes':>8}{'accepted':>10}{'same':>8}{'near':>8}{'skipped':>9}"
        lines = [
            f"{row.name:<18}{row.median_ms:>7.1f} ms{row.mean_ms:>7.1f} ms{row.passes:>8.2f}{row.accepted:>10.2f}"
            f"{row.same_tokens:>8.1%}{row.agreed:>8.1%}{row.skipped:>9.1%}" + ("" if not row.objection else "  -")
            for row in self.rows
        ]
        return "\n".join([head, *lines])

    def heading(self) -> str:
        """What stands above the parameters."""
        verdict = textwrap.fill(self.verdict(), 118)
        return (
            f"Made by vla-sd adapt for the checkpoint {self.checkpoint}, {self.unnorm_key}: {self.chosen}, the fastest decoder "
            f"of which {AGREED:.0%}\nof the actions are the policy's own within {CLOSE} bins. On {self.rows[0].count} held-out "
            f"images, {self._where()}:\n\n{self.table()}\n\n{verdict}\nNot measured: whether the arm succeeds."
        )

    def verdict(self) -> str:
        """Whether the policy does what was recorded."""
        own, other = f"{self.agreement.own:.0%}", f"{self.agreement.other:.0%}"
        if self.agreement.nothing:
            return (
                f"The policy agrees with nothing that was recorded: {own} of its motions are within {CLOSE} bins of the recorded "
                f"ones, and {other} of those of other steps. So it is with random weights, another arm, camera or unnorm_key. "
                "What follows says how fast it is, not that it is of any use."
            )
        return (
            f"{own} of the policy's motions are within {CLOSE} bins of the recorded ones, against {other} of those of other steps."
        )

    def _where(self) -> str:
        return device_name() if self.device == "cpu" else f"on {self.device}"

    def markdown(self) -> str:
        """The report."""
        some = f"Each {self.every}. image was used, as --most asks. " if self.every > 1 else ""
        return "\n".join(
            [
                f"# {self.checkpoint}, {self.unnorm_key}: `{self.chosen}`",
                "",
                f"Of {sum(self.counts.values())} episodes with {self.sentences} different sentences from {', '.join(self.sources)}: "
                f"{self.counts['learn']} to learn from, {self.counts['calibrate']} to calibrate on, {self.counts['measure']} to "
                f"measure on. {some}".strip(),
                *[f"\n{sentence}" for sentence in self.skipped],
                "",
                "## Units",
                "",
                "The recorded actions beside the checkpoint's statistics:",
                "",
                "```",
                self.units,
                "```",
                "",
                "## The policy",
                "",
                self.verdict(),
                "",
                *self._decoders(),
                NOT_MEASURED,
                "",
                *self._projection(),
                "![latency and agreement of the decoders](report.png)",
                "",
                "## Settings",
                "",
                "As fitted on the episodes to calibrate on (decoder.yaml):",
                "",
                "```",
                *(f"{name}: {value}" for name, value in self.settings.items()),
                "```",
                "",
            ]
        )

    def _decoders(self) -> list[str]:
        """What was measured of each, and why not each can be chosen."""
        objections = [f"- `{row.name}`: {row.objection}." for row in self.rows if row.objection]
        rows = [
            f"| {'**' if row.name == self.chosen else ''}`{row.name}`{'**' if row.name == self.chosen else ''} | "
            f"{row.median_ms:.1f} | {row.mean_ms:.1f} | {row.passes:.2f} | {row.accepted:.2f} | {row.same_tokens:.1%} | "
            f"{row.agreed:.1%} | {row.skipped:.1%} |"
            for row in self.rows
        ]
        return [
            "## Decoders",
            "",
            f"On {self.rows[0].count} held-out images, {self._where()}, one at a time; near: all motions within {CLOSE} bins of "
            "the policy's own and the gripper's token the same; skipped: no pass of the language model.",
            "",
            "| decoder | median [ms] | mean [ms] | passes | accepted | same tokens | near | skipped |",
            "|---|---|---|---|---|---|---|---|",
            *rows,
            "",
            f"Chosen is the fastest on average of those of which {AGREED:.0%} of all actions, and {SKIPPED:.0%} of the unverified "
            "ones, are near for certain (97.5 %).",
            "",
            *(["Not to be chosen:", "", *objections, ""] if objections else []),
        ]

    def _projection(self) -> list[str]:
        """The measured passes on devices that are not here."""
        devices = list(self.projected)
        lines = [
            f"| `{row.name}` | " + " | ".join(f"{self.projected[device][row.name]:.1f}" for device in devices) + " |"
            for row in self.rows
        ]
        return [
            "## On other devices",
            "",
            "What the same passes would take at the size of this checkpoint (the embedded policy: of OpenVLA-7B), projected from "
            "bandwidth and arithmetic, mean of an action [ms]; `vla-sd bench decode --project` says what is assumed:",
            "",
            f"| decoder | {' | '.join(devices)} |",
            "|---" * (len(devices) + 1) + "|",
            *lines,
            "",
        ]


def write_report(folder: Path, findings: Findings) -> None:
    """report.md and report.png."""
    write_whole(folder / "report.md", lambda part: part.write_text(findings.markdown()))
    write_whole(folder / "report.png", lambda part: _figure(findings, part))


def _figure(findings: Findings, path: Path) -> None:
    """Latency and agreement of each decoder, side by side."""
    from matplotlib.figure import Figure

    rows = list(findings.rows)[::-1]
    figure = Figure(figsize=(10, 0.35 * len(rows) + 1.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    colours = ["tab:green" if row.name == findings.chosen else "lightgrey" if row.objection else "tab:blue" for row in rows]
    left.barh([row.name for row in rows], [row.mean_ms for row in rows], color=colours)
    left.set_xlabel("mean latency of an action [ms]")
    right.barh([row.name for row in rows], [100 * row.agreed for row in rows], color=colours)
    right.axvline(100 * AGREED, color="black", linewidth=0.8)
    right.set_xlabel(f"actions within {CLOSE} bins of the policy's own [%]")
    figure.suptitle(f"{findings.checkpoint}, {findings.unnorm_key}: {findings.chosen}".replace("$", r"\$"))
    figure.savefig(path, format="png", dpi=110)
