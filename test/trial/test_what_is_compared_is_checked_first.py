# SPDX-License-Identifier: Apache-2.0
"""What `vla-sd trial` cannot use is one sentence before anything begins; what it can becomes parameters of vla_node."""

import pytest

pytest.importorskip("fieldtrial", reason="fieldtrial is not installed: pip install '.[trial]'")

from vla_sd_ros.cli import main
from vla_sd_ros.trial.arms import read_arm

TWO = ["--arm", "autoregressive", "--arm", "fused"]


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ([], "there is no study in"),
        (["--unblind"], "there is no study in"),
        (["--arm", "fused", "--simulator"], "a trial compares at least two"),
        (["--arm", "fused", "--arm", "fused", "--simulator"], "--arm fused is there twice"),
        (["--arm", "fused", "--arm", "fast", "--simulator"], "there is no decoder 'fast'"),
        (["--arm", "fused", "--arm", "kerv@radius=3", "--simulator"], "unknown setting 'radius'"),
        (["--arm", "fused", "--arm", "kerv@kerv_cooldown=much", "--simulator"], "kerv_cooldown"),
        (["--arm", "fused", "--arm", "kerv@kerv_cooldown", "--simulator"], "is no SETTING=VALUE"),
        (TWO, "say with --instruction what the arm shall do"),
        ([*TWO, "--instruction", "go", "--suite", "libero_object"], "--suite is for --simulator"),
        ([*TWO, "--simulator", "--params", "no_such.yaml"], "there is no parameter file no_such.yaml"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments, sentence, tmp_path, capsys):
    assert main(["trial", str(tmp_path / "study"), *arguments]) == 2
    told = capsys.readouterr().err
    assert told.startswith("vla-sd trial: ") and sentence in told and told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_arm_is_parameters_of_vla_node():
    arm = read_arm("kerv@relaxed_radius=15@kalman_decay=1+1+1+1+1+0.5@policy.checkpoint=./mine")
    assert arm.parameters == {
        "decoder.name": "kerv",
        "decoder.relaxed_radius": 15.0,
        "policy.checkpoint": "./mine",
        "decoder.kalman_decay": [1, 1, 1, 1, 1, 0.5],
    }
    assert isinstance(arm.parameters["decoder.relaxed_radius"], float)
