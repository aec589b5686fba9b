# SPDX-License-Identifier: Apache-2.0
"""A reader of two minutes: a picture, a table of measured results, links and paths that lead somewhere, in 150 lines."""

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\((?!https?://)([^)#\s]+)")
PATH = re.compile(r"`((?:src|test|config|docs|launch|msg|benchmarks|tools|\.ci)/[\w./-]*)`")


def test_it_is_short_and_begins_with_a_picture():
    assert len(README.splitlines()) <= 150
    picture = ROOT / re.search(r"^!\[.+\]\((docs/\S+)\)$", README, re.M)[1]
    assert README.index(str(picture.relative_to(ROOT))) < 300
    assert picture.read_bytes()[:4] == b"GIF8" and picture.stat().st_size < 1.5e6


def test_its_results_are_those_that_were_measured(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import model_card

    assert model_card.filled(README, model_card.readme_table()) == README
    results = ROOT / "benchmarks" / "results"
    measured = [
        (decoder, json.loads(path.read_text())["decoders"][decoder])
        for name, decoder, _ in model_card.README_ROWS
        if name.startswith("decoders_libero_object") and (path := results / f"{name}.json").exists()
    ]
    rows = re.findall(r"^\| libero_object \| `(\w+)`[^|]* \| (\d+)% \| .* \| ([\d.]+) ms \|", README, re.M)
    assert len(rows) >= 3
    assert [(name, float(success) / 100, float(latency)) for name, success, latency in rows] == [
        (name, pytest.approx(row["success_rate"], abs=0.0051), pytest.approx(row["latency_ms"]["median"], abs=0.051))
        for name, row in measured
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    lost = [link for link in LINK.findall(text) if not (page.parent / link).exists()]
    lost += [path for path in PATH.findall(text) if not (ROOT / path).exists()]
    assert lost == []


def test_every_page_is_in_the_site():
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    listed = {page for part in navigation for pages in part.values() for page in ([pages] if isinstance(pages, str) else pages)}
    assert {path.name for path in (ROOT / "docs").glob("*.md")} <= listed
    assert {Path(link).name for link in LINK.findall(README) if link.startswith("docs/") and link.endswith(".md")} == {
        path.name for path in (ROOT / "docs").glob("*.md")
    }, "the README links each page"


def test_the_reference_has_every_parameter_and_every_message(monkeypatch):
    pytest.importorskip("vla_sd_ros.nodes.sim_node", reason="needs the extra [sim]")
    monkeypatch.syspath_prepend(ROOT / "tools")
    import site_pages

    from vla_sd_ros.nodes.arm_node import ArmNode
    from vla_sd_ros.nodes.vla_node import VlaNode

    pages = site_pages.pages()
    for node, table in (("arm_node", ArmNode.TABLE), ("vla_node", VlaNode.TABLE)):
        section = pages["parameters.md"].split(f"\n## {node}\n")[1].split("\n## ")[0].splitlines()
        rows = {line.split("`")[1]: line for line in section if line.startswith("| `")}
        for spec in table:
            assert site_pages.cell(spec.description) in rows[spec.name]
            assert spec.low is None or f"{spec.low:g} .. {spec.high:g}" in rows[spec.name]
    for path in (ROOT / "msg").glob("*/*.*"):
        if path.suffix in (".msg", ".srv", ".action"):
            assert path.read_text() in pages["messages.md"]
    assert "](docs/" not in pages["index.md"] + pages["contributing.md"]
    assert sys.modules.get("mkdocs") is None, "the pages are made without it"
