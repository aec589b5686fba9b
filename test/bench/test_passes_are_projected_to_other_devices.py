# SPDX-License-Identifier: Apache-2.0
"""`bench decode --project` computes what recorded passes cost on devices that are not here, from sizes that need no memory."""

import json

import pytest

from vla_sd_ros.bench import price, project, results
from vla_sd_ros.bench.price import PROFILES, Played, read_actions
from vla_sd_ros.bench.project import DEVICES, Device, Sizes
from vla_sd_ros.bench.results import Step
from vla_sd_ros.cli import main
from vla_sd_ros.policy.random_openvla import RANDOM

PLAIN = [("prefill", 0, 0)] + [("extend", 0, 0)] * 6
CHAIN = [("prefill", 0, 0), ("extend", 5, 5)]


@pytest.fixture(scope="module")
def sizes():
    return Sizes.of(RANDOM["random-7b"])


def test_the_sizes_are_those_of_openvla(sizes):
    """6.5 billion weights of the language model and 0.76 of vision and projector; embeddings are looked up, not read."""
    number, size_bytes = sizes.language
    assert number == pytest.approx(6.48e9, rel=0.01) and size_bytes == 2 * number
    assert sizes.vision[0] == pytest.approx(0.76e9, rel=0.01) and sizes.image_tokens == 256 and sizes.blocks == 23 + 26
    assert Sizes.of(RANDOM["random-7b"], "int8").language[1] == pytest.approx(number, rel=0.01)


@pytest.mark.parametrize(("name", "known"), [("h100", 35.8), ("4090", 137.0), ("orin", 632.0), ("thor", 422.0)])
def test_autoregressive_decoding_is_what_others_computed(sizes, name, known):
    row = project.project({}, DEVICES[name], sizes)["autoregressive"]
    assert row["latency_ms"]["mean"] == pytest.approx(known, rel=0.03)
    assert row["control_rate_hz"] == pytest.approx(1e3 / row["latency_ms"]["p95"])


def test_a_pass_takes_the_longer_of_reading_and_multiplying():
    small = Sizes((0.0, 0.0), (1e9, 2e9), (0.0, 0.0), 100, 0)
    costs = project.roofline(Device("one", read=2e12, multiply=2e12, kernel=0.0), small)
    assert costs.extend(1) == pytest.approx(1.0) and costs.extend(50) == pytest.approx(50.0)
    towers = Sizes((1.0, 1.0), (1e9, 2e9), (0.0, 0.0), 100, 10)
    assert project.roofline(Device("two", 2e12, 2e12, 1e-6), towers).vision == pytest.approx(10 * project.KERNELS * 1e-3)


def test_mean_median_and_p95_are_those_of_all_recorded_steps(sizes):
    actions = [Played("prefill", [("prefill", 6, 6)]), Played("prefill", PLAIN)]
    row = project.project({"prefill": actions[:1] * 90 + actions[1:] * 10}, DEVICES["h100"], sizes)["prefill"]
    fast, slow = (
        project.row_of([one], project.roofline(DEVICES["h100"], sizes), 1.0)["latency_ms"]["mean"] + project.STEP for one in actions
    )
    assert row["latency_ms"] == pytest.approx({"median": fast, "mean": 0.9 * fast + 0.1 * slow, "p95": slow})


def test_of_several_trees_the_best_one_on_the_device_is_taken(sizes):
    wide = Played("draft", [("prefill", 0, 0), ("extend", 49, 5)], (50, 5, 8))
    chain = Played("draft", [("prefill", 0, 0), ("extend", 5, 2), ("extend", 2, 2)], (6, 5, 1))
    rows = project.project(
        {"spec_vla@spec_vla_tree=50+5+8": [wide], "spec_vla@spec_vla_tree=6+5+1": [chain]}, DEVICES["h100"], sizes
    )
    assert list(rows) == ["autoregressive", "spec_vla"] and rows["spec_vla"]["tree"] == [50, 5, 8]


def test_a_histogram_says_what_a_trace_says(tmp_path):
    steps = [Step("draft", {}, CHAIN)] * 3 + [Step("skip", {}, [])]
    (tmp_path / "r.json").write_text(json.dumps({"decoders": {"kerv": {"sequences": results.sequences(steps), "tree": [6, 5, 1]}}}))
    results.write_trace(tmp_path / "t.jsonl", [({"decoder": "kerv", "tree": [6, 5, 1]}, steps)])
    told, traced = read_actions(tmp_path / "r.json"), read_actions(tmp_path / "t.jsonl")
    assert told == traced and told["kerv"][0] == Played("draft", CHAIN, (6, 5, 1), 7) and len(told["kerv"]) == 4


def test_the_command_writes_a_row_a_decoder_and_device(tmp_path, capsys):
    steps = [Step("draft", {}, CHAIN)] * 3
    (tmp_path / "r.json").write_text(json.dumps({"decoders": {"kerv": {"sequences": results.sequences(steps)}}}))
    measured = {
        "device": "tested",
        "checkpoint": "random-7b",
        "passes_ms": {price.LOOK: 30.0},
        "floor": {"read_gb_per_s": 1000.0, "tflops": 100.0},
        "decoders": {name: {"latency_ms": {"median": 100.0}} for name in PROFILES},
    }
    (tmp_path / "m.json").write_text(json.dumps(measured))
    command = ["bench", "decode", "--project", "4090,orin", "--replay", str(tmp_path / "r.json")]
    assert main([*command, "--measured", str(tmp_path / "m.json"), "--json", str(tmp_path / "p.json")]) == 0
    report = json.loads((tmp_path / "p.json").read_text())["projected"]
    assert report.keys() == {"4090", "orin", "tested"} and report["orin"]["decoders"].keys() == {"autoregressive", "kerv"}
    assert report["4090"]["decoders"]["kerv"]["mean_speedup_vs_autoregressive"] > 1.5 and "173 to 229" in report["4090"]["sanity"]
    assert report["tested"]["decoders"]["autoregressive"]["latency_ms"]["mean"] > 30.0 + 7 * 13.0  # a look, and reading seven times
    error = report["tested"]["errors"]["autoregressive"]
    assert "skip" not in report["tested"]["errors"]  # a look takes what it was measured to take
    assert error["error"] == pytest.approx(error["projected_ms"] / 100.0 - 1)
    assert "autoregressive: " in (out := capsys.readouterr().out) and "measured: " in out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--project", "abacus", "--replay", "R"], "--project knows no device 'abacus': choose of h100, 4090"),
        (["--project", "h100"], "--project needs the passes of a closed loop"),
        (["--project", "h100", "--replay", "OLD"], "does not say which passes were taken"),
        (["--project", "h100", "--replay", "R", "--measured", "R"], "is no results file of vla-sd bench decode on a device"),
    ],
)
def test_what_cannot_be_projected_is_one_sentence(tmp_path, capsys, options, sentence):
    (tmp_path / "R").write_text(json.dumps({"decoders": {"kerv": {"sequences": results.sequences([Step("draft", {}, CHAIN)])}}}))
    (tmp_path / "OLD").write_text('{"decoders": {"kerv": {}}}')
    options = [str(tmp_path / o) if o in ("R", "OLD") else o for o in options]
    assert main(["bench", "decode", *options]) == 2
    assert sentence in capsys.readouterr().err


def of(**row) -> str:
    return json.dumps({"decoders": {"kerv": {"sequences": {"draft: prefill 0 0, extend 5 4": 1}, **row}}})


STEP = '{"path": "draft", "passes": [["prefill", 0, 0]]}'


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"5", "is not a trace of vla-sd bench libero --trace"),
        (b"\xff\xfe", "is not a trace of vla-sd bench libero --trace"),
        (b'{"decoder": "kerv", "steps": []}', "has no episodes, or one without steps"),
        (f'{{"decoder": "kerv", "tree": [1], "steps": [{STEP}]}}'.encode(), "is not a trace"),
        (f'{{"decoder": "kerv", "tree": [5, 0, 1], "steps": [{STEP}]}}'.encode(), "there is no tree of 5 nodes, 0 levels"),
        (of(sequences={"draft: prefill 0": 1}).encode(), "is a results file with passes that cannot be read"),
        (of(sequences={"draft: nonsense 6 6": 1}).encode(), "there is no pass 'nonsense' with 6 drafted and 6 accepted"),
        (of(sequences={"draft: extend 5 6": 1}).encode(), "there is no pass 'extend' with 5 drafted and 6 accepted"),
        (of(sequences={"draft: prefill 0 0": 0}).encode(), "does not say which passes were taken"),
        (of(tree=[1]).encode(), "is a results file with passes that cannot be read"),
    ],
)
def test_a_malformed_trace_or_results_file_is_one_sentence(tmp_path, capsys, content, sentence):
    (tmp_path / "R").write_bytes(content)
    assert main(["bench", "decode", "--project", "h100", "--replay", str(tmp_path / "R")]) == 2
    said = capsys.readouterr().err
    assert sentence in said and str(tmp_path / "R") in said and said.count("\n") == 1
