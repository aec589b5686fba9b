# SPDX-License-Identifier: Apache-2.0
"""`vla-sd bench decode` without observations plays forced profiles, or a trace's very passes, on any checkpoint."""

import json

import numpy as np
import pytest

from vla_sd_ros import policy
from vla_sd_ros.bench import price
from vla_sd_ros.cli import main

TINY = ["--checkpoint", "random-tiny-openvla", "--dtype", "float32", "--actions", "3"]


@pytest.fixture(scope="module")
def vla():
    return policy.load("random-tiny-openvla", dtype="float32")


def write_trace(path, passes_by_decoder):
    lines = [
        json.dumps({"decoder": name, "success": True, "steps": [{"path": "draft", "timings_ms": {}, "passes": p} for p in passes]})
        for name, passes in passes_by_decoder.items()
    ]
    path.write_text("\n".join(lines) + "\n")


def test_profiles_passes_and_floors_are_reported(tmp_path):
    assert main(["bench", "decode", *TINY, "--against", "transformers", "--repeats", "3", "--json", str(tmp_path / "p.json")]) == 0
    report = json.loads((tmp_path / "p.json").read_text())
    assert report["decoders"].keys() == price.PROFILES.keys() and report["dtype"] == "float32"
    assert report["decoders"]["autoregressive"]["forward_passes_per_action"] == 7
    assert 0 < report["floor"]["single_pass_ms"] < report["decoders"]["single pass"]["latency_ms"]["median"]
    assert len(report["transformers_ms"]) == 3 and min(report["transformers_ms"].values()) > 0
    assert {"vision and projector", "prefill with 6 drafted", "extend with 49 drafted"} < report["passes_ms"].keys()


def test_batches_and_quantisation_are_priced(tmp_path):
    pytest.importorskip("torchao", reason="needs the extra [quantization]")
    options = ["--repeats", "2", "--batch", "1,3", "--quantization", "int8", "--json", str(tmp_path / "p.json")]
    assert main(["bench", "decode", *TINY, *options]) == 0
    report = json.loads((tmp_path / "p.json").read_text())
    assert report["dtype"] == "float32 with layers of int8" and 0.5 < report["same_tokens_as_unquantised"] <= 1.0
    assert report["batches"].keys() == {"1", "3"}
    for row in report["batches"].values():
        assert 0 < row["vision_ms"] < row["single_pass_ms"] and 0 < row["autoregressive_ms"]


def test_a_batch_of_none_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "decode", *TINY, "--batch", "0,2"])
    assert "0,2 must be numbers from 1 to 64" in capsys.readouterr().err


def test_a_trace_is_played_pass_by_pass(vla, tmp_path, monkeypatch):
    passes = [["prefill", 0, 0], ["extend", 49, 2], ["extend", 10, 1], ["extend", 0, 0]]
    write_trace(tmp_path / "t.jsonl", {"kerv": [passes], "autoregressive": [[["prefill", 6, 4]]]})
    seen = []
    for kind in ("prefill", "extend"):
        original = getattr(vla, kind)

        def watched(*arguments, kind=kind, original=original):
            out = original(*arguments)
            seen.append((kind, len(out.logits) - 1, vla._length))
            return out

        monkeypatch.setattr(vla, kind, watched)
    (action,) = price.read_actions(tmp_path / "t.jsonl")["kerv"]
    drafter = price.Drafter(price.DrafterModel(vla.config.text), vla)
    timings = price.play(vla, drafter, np.zeros((224, 224, 3), np.uint8), action)
    start = seen[0][2]
    committed = [length - start for _, _, length in seen]
    assert [(kind, drafted) for kind, drafted, _ in seen] == [(kind, drafted) for kind, drafted, _ in passes]
    assert committed == [0, 0, 3, 5]  # each pass commits its root and what is accepted below it
    assert all(timings[stage] > 0 for stage in ("vision", "prefill", "draft", "decode"))


def test_a_file_that_is_no_trace_is_one_sentence(tmp_path, capsys):
    for text in ("", "{", '{"steps": []}\n'):
        (tmp_path / "bad").write_text(text)
        assert main(["bench", "decode", *TINY, "--replay", str(tmp_path / "bad")]) == 2
        assert "vla-sd bench libero --trace" in capsys.readouterr().err
