# SPDX-License-Identifier: Apache-2.0
"""docs/benchmarks.md is what `python benchmarks/decoders.py` makes of benchmarks/results, and so are the projections in there."""

import json
from pathlib import Path

import pytest

from vla_sd_ros.bench import project
from vla_sd_ros.bench.price import read_actions
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
