# SPDX-License-Identifier: Apache-2.0
"""report.html and summary.json of an unblinded study: fieldtrial's analysis, and what each decoder took."""

import json
from html import escape
from types import SimpleNamespace

from vla_sd_ros.report.bag import RecordedEpisode
from vla_sd_ros.report.summary import latency, provenance
from vla_sd_ros.trial.study import Study
from vla_sd_ros.whole_files import whole

HEADER = (
    "decoder",
    "trials",
    "actions",
    "latency, median [ms]",
    "latency, p95 [ms]",
    "passes per action",
    "accepted length",
    "paths",
    "clipped commands",
)


def write(study: Study) -> dict:
    """Make both files in the study's folder; returns the summary."""
    from fieldtrial.report import render_html

    results = study.results()
    costs = {name: cost(trials) for name, trials in study.measured().items()}
    with whole(study.folder / "report.html") as part:
        part.write_text(with_costs(render_html(results), costs))
    primary = results.primary
    summary = {
        **provenance(),
        "protocol": vars(study.protocol),
        "summary": results.summary,
        "pending": results.study.pending_trials,
        "design_hash": results.study.design_hash,
        "primary": primary.model_dump(
            mode="json",
            include={"method", "test", "treatment", "control", "n_used", "estimate", "ci", "pvalue", "rejected", "pairwise"},
        ),
        "arms": {
            arm.arm: {**arm.model_dump(mode="json", include={"successes", "completed", "invalid", "rate", "ci"}), **costs[arm.arm]}
            for arm in results.arms
        },
        "deviations": [deviation.message for deviation in results.deviations],
    }
    with whole(study.folder / "summary.json") as part:
        part.write_text(json.dumps(summary, indent=1) + "\n")
    return summary


def cost(trials: list[dict]) -> dict:
    """Latency, passes and paths over all actions of an arm's trials, and its clipped commands."""
    steps = [(0.0, SimpleNamespace(**step)) for trial in trials for step in trial["steps"]]
    clipped = [trial["clipped"] for trial in trials if trial["clipped"] is not None]
    return {
        "trials": len(trials),
        "actions": len(steps),
        "clipped_commands": sum(clipped) if clipped else None,
        **latency(RecordedEpisode(steps=steps)),
    }


def with_costs(report: str, costs: dict[str, dict]) -> str:
    """fieldtrial's page with our section at its end."""
    head = "".join(f"<th>{escape(title)}</th>" for title in HEADER)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in _row(name, row))}</tr>" for name, row in costs.items())
    section = (
        "<section><h2>What the decoders took</h2><p>Over all actions of the trials that count; no test. Latency is from "
        "the image in hand to seven tokens; clipped are the commands that arm_node cut to its limits.</p>"
        f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></section>'
    )
    before, end, after = report.rpartition("</main>")
    return before + section + end + after


def _row(name: str, cost: dict) -> list[str]:
    known, decoding = cost["latency_ms"] or {}, cost["decoding"] or {}
    paths = ", ".join(f"{path} {share:.0%}" for path, share in decoding.get("paths", {}).items())
    return [
        name,
        *(
            _text(value)
            for value in (
                cost["trials"],
                cost["actions"],
                known.get("median"),
                known.get("p95"),
                decoding.get("forward_passes_per_action"),
                decoding.get("accepted_length"),
                paths or None,
                cost["clipped_commands"],
            )
        ),
    ]


def _text(value: object) -> str:
    return "none" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)
