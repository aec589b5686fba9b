# SPDX-License-Identifier: Apache-2.0
"""A study's folder tells nobody which code is which; whatever ends a trial, each is counted once; the test is as planned."""

import gzip
import json

import pytest

pytest.importorskip("fieldtrial", reason="fieldtrial is not installed: pip install '.[trial]'")

from vla_sd_ros.inputs import BadInput
from vla_sd_ros.trial import report
from vla_sd_ros.trial import study as studies
from vla_sd_ros.trial.arms import read_arms
from vla_sd_ros.trial.study import Outcome, Protocol, Study

NAMES = ["autoregressive", "spec_vla_relaxed_radius-15"]
STEP = {
    "decoder": "spec_vla",
    "path": "draft",
    "forward_passes": 2,
    "accepted_length": 3,
    "vision_ms": 1.0,
    "prefill_ms": 2.0,
    "draft_ms": 1.0,
    "decode_ms": 3.0,
    "total_ms": 7.0,
    "image_to_command_ms": 9.0,
}


def new(folder, repetitions=2, texts=("autoregressive", "spec_vla@relaxed_radius=15")):
    studies.create(folder, read_arms(list(texts)), repetitions, Protocol("pick up the milk", "task_success", simulator=True))
    return folder


@pytest.fixture
def folder(tmp_path):
    return new(tmp_path / "a study")


def recorded(study: Study, text: str = "spec_vla"):
    workplace = study.workplace()
    (workplace / "episode").mkdir()
    (workplace / "episode" / "episode_0.mcap").write_text(f"a bag that says {text}")
    return workplace


def go_on(study: Study, succeeds, most: int = 99) -> None:
    """Make trials, of which those succeed for which succeeds(slot) is true, and do not count where it is None."""
    study.begin("somebody", "somewhere")
    while most and (slot := study.next()):
        most -= 1
        measured = {"clipped": 4, "steps": [STEP | {"decoder": slot.parameters["decoder.name"]}]}
        study.keep(study.start(slot), recorded(study), Outcome(succeeds(slot), "other", 2.5, measured, "CLIENT_GONE"))
    study.end()


def uses_drafts(slot) -> bool:
    return slot.parameters["decoder.name"] == "spec_vla"


def test_no_file_says_which_code_is_which_before_the_unblinding(folder):
    with studies.opened(folder) as study:
        codes = set()
        go_on(study, lambda slot: codes.add(slot.code) or uses_drafts(slot))
        assert len(codes) == 2
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        assert len(files) > 6
        telling = {path for path, content in files.items() if b"spec_vla" in content or b"autoregressive" in content}
        coded = {path for path, content in files.items() if any(code.encode() in content for code in codes)}
        assert telling == {"compared.yaml"} and coded >= {"fieldtrial.db"} and not telling & coded
        assert not study.unblinded

        told = study.unblind()
        assert set(told) == codes and sorted(told.values()) == NAMES
        opened = sorted(path.name for path in (folder / "trials").iterdir())
        assert len(opened) == 4 and sum("autoregressive" in name for name in opened) == 2
        assert all((folder / "trials" / name / "episode" / "episode_0.mcap").is_file() for name in opened)


def test_the_codes_are_drawn_anew_for_each_study(tmp_path):
    drawn = []
    for number in range(12):
        with studies.opened(new(tmp_path / str(number), 1)) as study:
            drawn.append((study.arms["a"].name, frozenset(study._codes().values())))
    assert {name for name, _ in drawn} == set(NAMES) and len({codes for _, codes in drawn}) > 6


def test_a_trial_that_was_cut_off_is_made_again_and_nothing_counts_twice(folder):
    with studies.opened(folder) as study:
        go_on(study, uses_drafts, most=1)
        study.begin("somebody", "somewhere")
        slot = study.next()
        cut_off = study.start(slot)  # ... and the process is killed
        study._seal(cut_off, recorded(study), Outcome(True, "success", 1.0, {"clipped": 99, "steps": [STEP] * 99}))
        recorded(study)
    with studies.opened(folder) as study:
        assert study.begin("somebody", "somewhere") == 1
        study.end()
        assert (again := study.next()).code == slot.code and again.setup == slot.setup
        assert not list((folder / "sealed").glob("part.*"))
        go_on(study, uses_drafts)
        study.unblind()
        summary = report.write(study)
    arms = summary["arms"]
    assert [
        (arms[name]["successes"], arms[name]["completed"], arms[name]["actions"], arms[name]["clipped_commands"]) for name in NAMES
    ] == [(0, 2, 2, 8), (2, 2, 2, 8)]
    assert sum(arm["invalid"] for arm in arms.values()) == 1 and summary["pending"] == 0


def test_what_does_not_count_is_made_again(folder):
    seen = []
    with studies.opened(folder) as study:
        go_on(study, lambda slot: None if seen.append(slot) or len(seen) == 2 else True)
        assert len(seen) == 5 and seen[2].code == seen[1].code
        study.unblind()
        arms = study.results().arms
        assert {(arm.completed, arm.successes) for arm in arms} == {(2, 2)} and sum(arm.invalid for arm in arms) == 1


def test_the_report_has_the_exact_test_and_what_each_decoder_took(tmp_path):
    folder = new(tmp_path / "study", repetitions=6)
    with studies.opened(folder) as study:
        go_on(study, uses_drafts)
        study.unblind()
        summary = report.write(study)
    primary = summary["primary"]
    assert (primary["treatment"], primary["control"], primary["estimate"]) == (NAMES[1], NAMES[0], 1.0)
    assert primary["pvalue"] == pytest.approx(2 * 0.5**6)  # McNemar, exact: six of six pairs
    page = (folder / "report.html").read_text()
    assert all(text in page for text in (*NAMES, "What the decoders took", "draft 100%", "clipped commands", "McNemar"))
    assert summary["arms"][NAMES[1]]["latency_ms"]["median"] == 7.0
    assert json.loads((folder / "summary.json").read_text())["arms"].keys() == set(NAMES)


def test_three_decoders_are_compared_with_the_first(tmp_path):
    with studies.opened(new(tmp_path / "study", 4, ("kerv", "autoregressive", "fused"))) as study:
        go_on(study, lambda slot: slot.parameters["decoder.name"] != "kerv")
        study.unblind()
        pairs = study.results().primary.pairwise
    assert {(pair.treatment, pair.control, pair.difference) for pair in pairs} == {
        ("autoregressive", "kerv", 1.0),
        ("fused", "kerv", 1.0),
    }


def test_an_early_unblinding_is_told_in_the_report(folder):
    with studies.opened(folder) as study:
        go_on(study, uses_drafts, most=1)
        study.unblind()
        assert any("unblind" in sentence.lower() for sentence in report.write(study)["deviations"])


def test_the_arms_cannot_be_exchanged_later(folder):
    path = folder / "sealed" / "arms.json.gz"
    key = json.loads(gzip.decompress(path.read_bytes()))
    key["arms"]["a"], key["arms"]["b"] = key["arms"]["b"], key["arms"]["a"]
    path.write_bytes(gzip.compress(json.dumps(key).encode()))
    with pytest.raises(BadInput, match="is not the one with which the study was locked"), studies.opened(folder):
        pass


def test_two_processes_do_not_share_a_study(folder):
    with studies.opened(folder), pytest.raises(BadInput, match="another vla-sd trial is at work"), studies.opened(folder):
        pass


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BadInput, match="is no study"):
        new(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
