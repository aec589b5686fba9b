# SPDX-License-Identifier: Apache-2.0
"""docs/benchmarks.md is what `python benchmarks/decoders.py` makes of benchmarks/results, and so are the projections in there."""

import json
import shutil
from pathlib import Path

import pytest

from vla_sd_ros.bench import project
from vla_sd_ros.bench.price import Played, read_actions
from vla_sd_ros.policy.random_openvla import RANDOM

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


@pytest.fixture
def decoders(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import decoders

    for plot in ("plot", "plot_sweeps"):
        monkeypatch.setattr(decoders, plot, lambda name, report: f"![{name}]({name}.png)")
    return decoders


def test_its_tables_are_those_of_the_results_files(decoders):
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    assert "\n".join(decoders.tables()) == page.split(decoders.BEGIN + "\n")[1].split(decoders.END)[0]


@pytest.mark.parametrize(
    ("name", "changed", "title"),
    [
        ("decoders_libero_goal", {"suite": "libero_goal"}, "libero_goal, 7 episodes"),
        ("decoders_libero_10_seed1", {"suite": "libero_10", "seed": 1}, "libero_10, objects shifted by up to 2 cm (seed 1), 7 epi"),
        (
            "decoders_libero_object_random",
            {"places": "random", "seed": 3},
            "libero_object, all objects in random places (seed 3), the",
        ),
        ("decoders_one_thread", {}, "libero_object, one process of one thread, 7 episodes"),
        ("decoders_two_threads_libero_spatial", {"suite": "libero_spatial"}, "libero_spatial, one process of two threads, 7 ep"),
    ],
)
def test_a_table_says_what_was_run(decoders, name, changed, title):
    assert decoders.title(name, {"suite": "libero_object", "seed": 0, "episodes": 7, "floor_ms": 9.0} | changed).startswith(title)


def test_results_that_are_not_there_are_left_out(decoders, tmp_path, monkeypatch):
    import model_card

    for module in (decoders, model_card):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    assert decoders.tables() == []
    shutil.copy(RESULTS / "decoders_libero_object.json", tmp_path)
    report = json.loads((RESULTS / "decoders_libero_object.json").read_text())
    rows = "\n".join(model_card.readme_table().splitlines()[2:])
    assert rows.count("libero_object |") == 2 and "small" not in rows
    report |= {"places": "random", "seed": 3}
    (tmp_path / "decoders_libero_object_random.json").write_text(json.dumps(report))
    assert "`fused`, all objects in random places" in model_card.readme_table()
    assert "| libero_object, random places |" in model_card.tables()
    assert len([line for line in decoders.tables() if line.startswith("### ")]) == 2


def test_a_decoders_own_passes_are_projected_beside_its_speed(decoders):
    row = {
        "success_rate": 1.0,
        "ci95": [0.5, 1.0],
        "latency_ms": {"median": 10.0, "mean": 10.0, "p95": 10.0},
        "speedup_vs_autoregressive": None,
        "mean_speedup_vs_autoregressive": None,
        "forward_passes_per_action": 1.0,
        "accepted_length": 6.0,
        "paths": {"prefill": 1.0},
        "sequences": {"prefill: prefill 6 6": 4},
        "commands_shortened": 0.025,
        "jerk_m_per_s3": {"rms": 33.4, "p95": 65.1},
    }
    (line,) = decoders.closed_loop({"decoders": {"prefill": row}, "floor_ms": 10.0})[2:]
    costs = project.project({"prefill": [Played("prefill", [("prefill", 6, 6)])]}, project.DEVICES["4090"], decoders.openvla())
    assert f"| {costs['prefill']['latency_ms']['mean']:.1f} | {costs['prefill']['mean_speedup_vs_autoregressive']:.2f} |" in line
    assert "| 2.5% | 33 / 65 |" in line


@pytest.mark.parametrize("file", sorted(RESULTS.glob("projected*.json")), ids=lambda path: path.stem)
def test_a_projection_is_made_anew_from_the_passes_that_it_names(file):
    report = json.loads(file.read_text())
    actions, sizes = read_actions(ROOT / report["of"]), project.Sizes.of(RANDOM["random-7b"])
    assert report["projected"].keys() >= {"h100", "4090", "orin", "thor"}
    for key, entry in report["projected"].items():
        rows = project.project(actions, project.DEVICES[key], sizes)
        assert rows.keys() == entry["decoders"].keys()
        for name, row in rows.items():
            assert row["latency_ms"] == pytest.approx(entry["decoders"][name]["latency_ms"])
