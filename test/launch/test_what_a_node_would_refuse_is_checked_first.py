# SPDX-License-Identifier: Apache-2.0
"""Before the first process starts: types, ranges, values together, checkpoint and bundle; the driver takes control of no arm then."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vla_sd_ros import checkpoint_places
from vla_sd_ros.cli import main
from vla_sd_ros.prepare import prepare

ROOT = Path(__file__).parents[2]
DIRECT = {"driver": "direct", "robot_ip": "172.16.0.2"}


def plan(given, tmp_path, text=""):
    mine = tmp_path / "mine.yaml"
    mine.write_text(text)
    return prepare("franka.launch.py", DIRECT | {"params_file": str(mine)} | given, ROOT, lambda package: "/nowhere").plan


@pytest.fixture
def trained(tmp_path):
    """Looks like an OpenVLA checkpoint, as far as is looked at before anything is loaded."""
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "config.json").write_text(json.dumps({"model_type": "openvla"}))
    return str(tmp_path / "trained")


@pytest.mark.parametrize(
    "node, values, sentence",
    [
        (
            "arm_node",
            "limits.linear_velocity: 1",
            "arm_node: parameter 'limits.linear_velocity' is 1 of type integer, but must be double",
        ),
        ("arm_node", "dry_run: 'yes'", "arm_node: parameter 'dry_run' is 'yes' of type string, but must be bool"),
        (
            "arm_node",
            "limits.linear_velocity: 9.0",
            "arm_node: parameter 'limits.linear_velocity' is 9.0, but must lie in 0.01 .. 2.0",
        ),
        ("arm_node", "workspace.min: [1, 0.5, 0.0]", "'workspace.min' is [1, 0.5, 0.0], whose entries are not of one type"),
        ("arm_node", "workspace.min: [1.0, 0.0, 0.0]", "arm_node: workspace.min is 1.0 and workspace.max is 0.7 in x"),
        ("arm_node", "gripper.effort: ", "arm_node: parameter 'gripper.effort' is None"),
        ("vla_node", "decoder.name: fast", "vla_node: parameter 'decoder.name' is 'fast', but must be one of"),
        ("vla_node", "goal.step_limit: 3.0", "vla_node: parameter 'goal.step_limit' is 3.0 of type double, but must be integer"),
        ("franka_driver", "mode: soft", "franka_driver: parameter 'mode' is 'soft', but must be one of"),
        ("franka_driver", "joint_names: [a]", "franka_driver: joint_names must be the seven joints of a Franka"),
    ],
)
def test_a_value_that_a_node_would_refuse(node, values, sentence, tmp_path):
    with pytest.raises(ValueError) as error:
        plan({}, tmp_path, f"/**/{node}: {{ros__parameters: {{{values}}}}}")
    assert sentence in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "checkpoint, sentence",
    [
        ("./nothere", "checkpoint './nothere' was not found: give a checkpoint directory"),
        ("libero", "checkpoint 'libero' is a policy of the simulator, which a real arm must not follow"),
        ("random-7b", "checkpoint 'random-7b' is random weights, which a real arm must not follow"),
        ("{tmp}", "it has no config.json that can be read"),
    ],
)
def test_a_checkpoint_that_is_none_or_not_for_a_real_arm(checkpoint, sentence, tmp_path):
    with pytest.raises(ValueError) as error:
        plan({"checkpoint": checkpoint.format(tmp=tmp_path)}, tmp_path)
    assert sentence in str(error.value)


def test_one_for_a_real_arm_is_taken(trained, tmp_path):
    assert plan({"checkpoint": trained}, tmp_path)
    assert prepare("sim.launch.py", {"checkpoint": "libero"}, ROOT, lambda package: "/nowhere")
    with pytest.raises(ValueError, match="bundle"):
        plan({"checkpoint": trained, "adapted": str(tmp_path / "none")}, tmp_path)


@pytest.mark.parametrize(
    "node, sentence",
    [
        ("arm_node", "base_frame is fr3_link0 of franka_driver, but table of arm_node and vla_node: "),
        ("franka_driver", "base_frame is table of franka_driver, but fr3_link0 of arm_node and vla_node: "),
        ("vla_node", "base_frame is fr3_link0 of franka_driver and arm_node, but table of vla_node: "),
    ],
)
def test_the_node_with_another_base_frame_is_named(node, sentence, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        plan({}, tmp_path, f"/**/{node}: {{ros__parameters: {{base_frame: table}}}}")


def test_the_names_of_random_policies_are_those_that_there_are():
    from vla_sd_ros.policy.random_openvla import RANDOM

    assert set(checkpoint_places.RANDOM_NAMES) == set(RANDOM)


def test_torch_is_not_loaded_for_it():
    code = "import sys, vla_sd_ros.prepare, vla_sd_ros.nodes.vla_parameters; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.parametrize(
    "values, sentence",
    [
        (["--checkpoint", "./nothere"], "checkpoint './nothere' was not found"),
        (["--checkpoint", "libero"], "is a policy of the simulator"),
        ([], "no policy is named: give the one that was trained for this arm"),
        (["--checkpoint", "random-7b", "--params-file", "{tmp}/int.yaml"], "but must be double (write 1.0, not 1)"),
        (
            ["--checkpoint", "{trained}", "--output-dir", "/proc/x"],
            "cannot be made: No such file or directory; give another --output-dir",
        ),
    ],
)
def test_the_command_ends_with_2_and_starts_nothing(values, sentence, tmp_path, trained, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROS_DOMAIN_ID", "77")
    (tmp_path / "int.yaml").write_text("/**/arm_node: {ros__parameters: {limits.linear_velocity: 1}}")
    given = [word.format(tmp=tmp_path, trained=trained) for word in values]
    assert main(["robot", "franka", "--robot-ip", "127.0.0.9", *given]) == 2
    said = capsys.readouterr().err
    assert said.startswith("vla-sd robot: ") and sentence in said and len(said.splitlines()) == 1
    assert not (tmp_path / "runs").exists()
