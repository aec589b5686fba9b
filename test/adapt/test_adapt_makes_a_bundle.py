# SPDX-License-Identifier: Apache-2.0
"""`vla-sd adapt`, from a checkpoint and recordings alone to a bundle with which every decoder runs, and to a report."""

import json
import time

import numpy as np
import pytest

for library in ("google.protobuf", "crc32c", "matplotlib"):
    pytest.importorskip(library, reason="needs the extra [data]")

from adapting import BRIDGE, SENTENCES, adapt, write_openvla, write_recordings  # noqa: E402

from vla_sd_ros import policy  # noqa: E402
from vla_sd_ros.adapt.plan import Parts  # noqa: E402
from vla_sd_ros.assembly import Source  # noqa: E402
from vla_sd_ros.assembly.bundle import read  # noqa: E402
from vla_sd_ros.assembly.local import load  # noqa: E402
from vla_sd_ros.cli import main  # noqa: E402
from vla_sd_ros.decoding.settings import DECODERS  # noqa: E402
from vla_sd_ros.recordings import Recordings  # noqa: E402
from vla_sd_ros.training import answers  # noqa: E402
from vla_sd_ros.training.trees import SHAPES  # noqa: E402

IMAGE = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)


def check_decoders(checkpoint, output, sentence):
    """Every decoder runs, and those with exact acceptance decide what the policy alone decides."""
    model = load(Source(str(checkpoint), adapted=str(output)))
    plain = model.decoder("autoregressive").decide(IMAGE, sentence).bins
    for name in DECODERS:
        bins = model.decoder(name, model.bundle.choice.settings).decide(IMAGE, sentence).bins
        assert bins.shape == (7,)
        if name in ("naive_sd", "prefill"):
            assert np.array_equal(bins, plain), name
    return model


@pytest.mark.skipif(not BRIDGE.is_dir(), reason="the shard of BridgeData V2 is not on this machine")
def test_of_openvla_and_the_real_bridge_shard(tmp_path, capsys):
    checkpoint, begun = write_openvla(tmp_path / "openvla"), time.monotonic()
    assert adapt(checkpoint, BRIDGE, tmp_path / "adapted", "--camera", "image_0", "--rate", "5", "--tree-steps", "5") == 0
    assert time.monotonic() - begun < 180
    said, report = capsys.readouterr().out, (tmp_path / "adapted" / "report.md").read_text()
    assert "25 episodes with a step each 0.2 s" in said and "20 episodes to learn from, 3 to calibrate on, 2 to measure on" in said
    for text in (said, report):  # the table of units
        assert "x [m]" in text and "bridge_orig   1 %      -0.0287" in text and "recordings    1 %      -0.0163" in text
    assert "The policy agrees with nothing that was recorded" in report and "random weights" in report
    assert "Not measured: whether the arm succeeds" in report
    assert all(report.count(f"| `{name}`") + report.count(f"**`{name}`**") >= 2 for name in DECODERS)  # here, and elsewhere
    assert "| RTX 4090 |" in report.replace("decoder | ", "") and "kerv_scale" in report
    assert (tmp_path / "adapted" / "report.png").read_bytes()[:4] == b"\x89PNG"
    model = check_decoders(checkpoint, tmp_path / "adapted", "put the pot on the stove")
    assert len(model.database) == 200 and model.vla.unnorm_key == "bridge_orig"
    assert not (tmp_path / "adapted" / "work" / "answers").exists()


def test_of_the_embedded_policy(tmp_path, capsys):
    policy.write_random(tmp_path / "policy")
    write_recordings(tmp_path / "recordings")
    assert adapt(tmp_path / "policy", tmp_path / "recordings", tmp_path / "adapted", "--keep-work", "--tree-steps", "5") == 0
    check_decoders(tmp_path / "policy", tmp_path / "adapted", SENTENCES[0])
    settings = read(tmp_path / "adapted").choice.settings  # the trees were measured, each for its decoder
    assert all(settings.tree(name) in SHAPES and getattr(settings, f"{name}_tree") != [0, 0, 0] for name in ("naive_sd", "kerv"))
    assert adapt(tmp_path / "policy", tmp_path / "recordings", tmp_path / "adapted", "--tree-steps", "5") == 0
    assert "is whole; remove it to make another one" in capsys.readouterr().out
    # each stage by the command that is there for it, on the same files
    work = tmp_path / "adapted" / "work"
    common = ["--checkpoint", str(tmp_path / "policy")]
    assert main(["calibrate", *common, "--observations", str(work / "calibrate"), "--output", str(tmp_path / "own.yaml")]) == 0
    assert main(["bench", "decode", *common, "--observations", str(work / "measure"), "--adapted", str(tmp_path / "adapted")]) == 0
    assert read(tmp_path / "adapted").choice.decoder in capsys.readouterr().out


def test_copies_teach_and_are_no_part_of_what_is_measured_or_retrieved(tmp_path):
    policy.write_random(tmp_path / "policy")
    write_recordings(tmp_path / "recordings")
    more = ("--keep-work", "--copies", "2")
    assert adapt(tmp_path / "policy", tmp_path / "recordings", tmp_path / "adapted", *more) == 0
    work = tmp_path / "adapted" / "work"
    asked = {path.stem for path in (work / "answers").glob("[0-9a-f]*.npz")}
    learnt = {name for name in asked if f"{name}_2" in asked}
    assert len(learnt) == 4 and asked - learnt == {f"{n}_{i}" for n in learnt for i in (2, 3)} | {
        n for n in asked if n[:16] not in learnt
    }
    assert len(asked) == 3 * 4 + 1  # and the one to calibrate on
    assert len(check_decoders(tmp_path / "policy", tmp_path / "adapted", SENTENCES[0]).database) == 4 * 5
    assert [len(list((work / part).rglob("*.npz"))) for part in ("calibrate", "measure")] == [1, 1]


def test_what_cannot_be_adapted_is_one_sentence(tmp_path, capsys):
    policy.write_random(tmp_path / "policy")
    write_recordings(tmp_path / "two", count=2)
    write_recordings(tmp_path / "recordings", count=4)
    for arguments, said in (
        ((tmp_path / "policy", tmp_path / "two", tmp_path / "a"), "2 different episodes, but one to learn from"),
        ((tmp_path / "nothing", tmp_path / "recordings", tmp_path / "a"), "was not found"),
        ((tmp_path / "policy", tmp_path / "nothing", tmp_path / "a"), "nothing does not exist"),
    ):
        assert adapt(*arguments) == 2
        assert said in (error := capsys.readouterr().err) and error.count("\n") == 1


def test_work_that_was_begun_with_something_else_is_not_mixed(tmp_path, capsys, monkeypatch):
    policy.write_random(tmp_path / "policy")
    recordings = write_recordings(tmp_path / "recordings", count=4)
    monkeypatch.chdir(tmp_path)
    assert adapt(tmp_path / "policy", recordings, "adapted") == 0  # as the README gives it
    for option, value in (("--seed", "3"), ("--camera", "wrist"), ("--instruction", "dance"), ("--most", "5")):
        assert adapt(tmp_path / "policy", recordings, tmp_path / "adapted", option, value) == 2
        other = "recordings" if option == "--instruction" else option
        assert f"was begun with other {other}: give another --output" in capsys.readouterr().err
    write_recordings(recordings, count=5)
    assert adapt(tmp_path / "policy", recordings, tmp_path / "adapted") == 2
    assert "was begun with other recordings" in capsys.readouterr().err
    policy.write_random(tmp_path / "policy", seed=1)
    assert adapt(tmp_path / "policy", recordings, tmp_path / "adapted") == 2
    assert "was begun with other weights of the checkpoint" in capsys.readouterr().err


def test_a_damaged_bundle_is_to_be_removed_before_it_is_made_again(tmp_path, capsys):
    policy.write_random(tmp_path / "policy")
    recordings = write_recordings(tmp_path / "recordings", count=4)
    assert adapt(tmp_path / "policy", recordings, tmp_path / "adapted") == 0
    drafter = tmp_path / "adapted" / "drafter.safetensors"
    drafter.write_bytes(drafter.read_bytes()[:-100])
    assert adapt(tmp_path / "policy", recordings, tmp_path / "adapted") == 2
    assert f"has changed since it was written: copy the bundle again, or remove {tmp_path}" in capsys.readouterr().err


def test_a_part_of_which_nothing_can_be_used_is_told_before_anything_is_learnt(tmp_path, capsys):
    policy.write_random(tmp_path / "policy")
    recordings = write_recordings(tmp_path / "recordings", count=4)
    episodes = list(Recordings([recordings]))
    (apart,) = Parts.of((key for key, _ in answers.named(episodes)), 5).measure
    (name,) = (episode.name for key, episode in answers.named(episodes) if key == apart)
    with np.load(name) as file:
        whole = dict(file)
    np.savez(name, **{**whole, "images": whole["images"][:1]})
    assert adapt(tmp_path / "policy", recordings, tmp_path / "adapted") == 2
    said = capsys.readouterr().err
    assert "none of the episodes to measure" in said and "has 5 actions, but 1 images" in said and said.count("\n") == 1
    assert not (tmp_path / "adapted" / "draft_head.safetensors").exists()


def test_a_quantised_policy_is_measured_against_itself(tmp_path):
    pytest.importorskip("torchao", reason="needs the extra [quantization]")
    checkpoint, recordings = write_openvla(tmp_path / "openvla"), write_recordings(tmp_path / "recordings", count=4, size=32)
    assert adapt(checkpoint, recordings, tmp_path / "adapted", "--quantization", "int8") == 0
    rows = json.loads((tmp_path / "adapted" / "work" / "measured.json").read_text())["rows"]
    assert [(row["same_tokens"], row["objection"]) for row in rows if row["name"] == "autoregressive"] == [(1.0, "")]
