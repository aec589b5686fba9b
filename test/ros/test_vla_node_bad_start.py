# SPDX-License-Identifier: Apache-2.0
"""An unknown checkpoint, an unknown decoder and a wrong parameter file each give one clear sentence."""

import re
import shutil

import pytest

MODULE = "vla_sd_ros.nodes.vla_node"


def complaints(process) -> list[str]:
    return [line for line in process.log.splitlines() if "could not" in line or "Traceback" in line]


def test_an_unknown_checkpoint_fails_configure_and_a_right_one_helps(start, ros, checkpoint):
    process = start(MODULE, {"policy.checkpoint": "no_such_model"})
    process_ready = ros.state("vla_node")
    assert process_ready == "unconfigured"
    assert not ros.change_state("vla_node", "configure")
    line = process.wait_for_line("could not configure")
    assert "no_such_model" in line and len(complaints(process)) == 1
    assert ros.state("vla_node") == "unconfigured"

    assert ros.set_parameter("vla_node", "policy.checkpoint", str(checkpoint)).successful
    assert ros.set_parameter("vla_node", "decoder.name", "kerv").successful  # only with the model is it known: no drafter
    assert not ros.change_state("vla_node", "configure")
    assert "'kerv' needs a drafter" in complaints(process)[1]
    for name, value, sentence in (
        ("decoder.name", "fastest", "is 'fastest', but must be one of: autoregressive, naive_sd"),
        ("decoder.metric_radius", [0.5, 0.0], "metric_radius is [0.5, 0], but its first value"),
    ):
        refused = ros.set_parameter("vla_node", name, value)
        assert not refused.successful and sentence in refused.reason

    assert ros.set_parameter("vla_node", "decoder.name", "autoregressive").successful
    assert ros.set_parameter("vla_node", "policy.largest_translation", 0.001).successful
    assert not ros.change_state("vla_node", "configure")
    assert "m in x, more than 0.001 m: they must be in metres and radians" in complaints(process)[2]

    assert ros.set_parameter("vla_node", "policy.largest_translation", 0.25).successful
    assert ros.change_state("vla_node", "configure") and ros.change_state("vla_node", "activate")
    assert ros.state("vla_node") == "active"
    assert ros.change_state("vla_node", "deactivate") and ros.change_state("vla_node", "cleanup")
    assert ros.set_parameter("vla_node", "policy.device", "cpu").successful
    assert process.terminate() == 0


def test_a_checkpoint_whose_actions_are_not_finite_fails_configure(start, ros, checkpoint, tmp_path):
    damaged = shutil.copytree(checkpoint, tmp_path / "damaged")
    statistics = damaged / "dataset_statistics.json"
    statistics.write_text(re.sub(r"-?[0-9]+\.[0-9]+", "NaN", statistics.read_text()))
    process = start(MODULE, {"policy.checkpoint": str(damaged)})
    assert not ros.change_state("vla_node", "configure")
    assert "not finite" in process.wait_for_line("could not configure")
    assert len(complaints(process)) == 1


@pytest.mark.parametrize(
    "parameters, sentence",
    [
        ({"decoder.name": "fastest"}, "parameter 'decoder.name' is 'fastest', but must be one of: autoregressive"),
        ({"decoder.metric_radius": [0.5, 0.0]}, "metric_radius is [0.5, 0], but its first value, which becomes 0, must lie below"),
        ({"goal.time_limt": 3.0}, "has no parameter 'goal.time_limt': did you mean 'goal.time_limit'?"),
        ({"control_period": 1}, "parameter 'control_period' is 1 of type integer, but must be double (write 1.0, not 1)"),
        ({"image.timeout": -1.0}, "parameter 'image.timeout' is -1.0, but must lie in 0.05 .. 60.0"),
    ],
)
def test_a_wrong_parameter_file_ends_the_process_with_one_sentence(start, parameters, sentence):
    process = start(MODULE, parameters)
    assert sentence in process.wait_for_line("could not start")
    assert process.process.wait(5.0) == 1
    assert len(complaints(process)) == 1
