# SPDX-License-Identifier: Apache-2.0
"""A bundle beside other weights, another key, or with a damaged file is refused in one sentence, by all that take one."""

import json
import shutil

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="needs the extra [data]")

from adapting import SENTENCES, adapt, write_recordings  # noqa: E402

from vla_sd_ros import policy  # noqa: E402
from vla_sd_ros.assembly import Choice, Source, open_brain  # noqa: E402
from vla_sd_ros.cli import main  # noqa: E402


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A policy with two keys of statistics, and a bundle for one of them."""
    root = tmp_path_factory.mktemp("bundle")
    policy.write_random(root / "policy")
    path = root / "policy" / "dataset_statistics.json"
    (entry,) = json.loads(path.read_text()).values()
    other = json.loads(json.dumps(entry).replace("0.02", "0.03"))
    path.write_text(json.dumps({"mine": entry, "theirs": other}))
    write_recordings(root / "recordings", count=4)
    assert adapt(root / "policy", root / "recordings", root / "adapted", "--unnorm-key", "mine") == 0
    return root


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


CASES = {
    "other weights": (lambda root: policy.write_random(root / "policy", seed=1), "was made for the checkpoint policy (weights "),
    "another key": (None, "was made with the action statistics 'mine', not with 'theirs' as they are: choose 'mine'"),
    "other numbers": (
        lambda root: (root / "policy/dataset_statistics.json").write_text(
            (root / "policy/dataset_statistics.json").read_text().replace("0.02", "0.021")
        ),
        "other numbers under 'mine'",
    ),
    "a truncated drafter": (lambda root: truncate(root / "adapted/drafter.safetensors"), "drafter.safetensors has changed"),
    "a truncated head": (lambda root: truncate(root / "adapted/draft_head.safetensors"), "draft_head.safetensors has changed"),
    "a truncated database": (lambda root: truncate(root / "adapted/database/entries.npz"), "entries.npz has changed"),
    "no head": (lambda root: (root / "adapted/draft_head.safetensors").unlink(), "is not there any more"),
    "a truncated description": (lambda root: truncate(root / "adapted/bundle.json"), "bundle.json is damaged"),
    "an unfinished bundle": (lambda root: (root / "adapted/bundle.json").unlink(), "there is no whole bundle in"),
    "a decoder of nonsense": (
        lambda root: (root / "adapted/decoder.yaml").write_text("/**/vla_node: {ros__parameters: {decoder: {name: warp}}}"),
        "names the decoder 'warp', which does not exist",
    ),
    "settings of nonsense": (
        lambda root: (root / "adapted/decoder.yaml").write_text(
            "/**/vla_node: {ros__parameters: {decoder: {relaxed_radius: nine}}}"
        ),
        "relaxed_radius is 'nine'",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused(made, tmp_path, capsys, case):
    change, said = CASES[case]
    shutil.copytree(made, tmp_path / "copy")
    key = "theirs" if case == "another key" else "mine"
    if change:
        change(tmp_path / "copy")
        if case == "other weights":
            shutil.copy(made / "policy/dataset_statistics.json", tmp_path / "copy/policy")
    root = tmp_path / "copy"
    common = ["--checkpoint", str(root / "policy"), "--unnorm-key", key, "--adapted", str(root / "adapted")]
    with pytest.raises(ValueError) as refused:
        open_brain(Source(str(root / "policy"), unnorm_key=key, adapted=str(root / "adapted")))
    assert said in str(refused.value) and "\n" not in str(refused.value)
    assert main(["bench", "decode", *common, "--observations", str(root / "adapted" / "work" / "measure")]) == 2
    assert said in (error := capsys.readouterr().err) and error.count("\n") == 1
    assert main(["doctor", *common]) == 1
    assert said in (line := capsys.readouterr().out) and line.count("\n") == 1
    if pytest.importorskip("aiohttp", reason="needs the extra [serve]"):
        assert main(["serve", *common, "--port", "0"]) == 2
        assert said in capsys.readouterr().err


def test_a_key_that_is_chosen_later_is_refused_too(made):
    brain = open_brain(Source(str(made / "policy"), adapted=str(made / "adapted")))
    assert brain.choice.unnorm_key == "mine"  # the bundle's, of two
    with pytest.raises(ValueError, match="made with the action statistics 'mine', not with 'theirs'"):
        brain.check(Choice("fused", unnorm_key="theirs"), ("policy.unnorm_key",))
    brain.use(Choice("heisd", unnorm_key="mine"))
    assert brain.decide(np.full((32, 32, 3), 90, np.uint8), SENTENCES[0]).bins.shape == (7,)


def test_doctor_says_what_the_bundle_decides(made, capsys):
    assert main(["doctor", "--checkpoint", str(made / "policy"), "--adapted", str(made / "adapted")]) == 0
    assert "bundle " in capsys.readouterr().out
