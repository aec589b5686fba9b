# SPDX-License-Identifier: Apache-2.0
"""An argument for one parameter wins over the user's parameter file, that over what is derived, that over the package's file.

Held for every parameter that a launch file sets.
"""

import json
from pathlib import Path

import pytest

from vla_sd_ros import prepare as module
from vla_sd_ros.bringup import LAUNCH_FILES, PACKAGE, Process, parameter_files
from vla_sd_ros.parameter_files import read, values_of
from vla_sd_ros.prepare import node_name, prepare

ROOT = Path(__file__).parents[2]
# Every launch file with every driver of ours and every kind of arm.
CASES = [
    ("sim.launch.py", {}),
    ("sim.launch.py", {"arm": "widowx"}),
    ("franka.launch.py", {"driver": "sim"}),
    ("franka.launch.py", {"driver": "none", "load_gripper": "false"}),
    ("franka.launch.py", {"driver": "none", "controller": "joint_trajectory", "robot_type": "fer", "gripper": "/mine"}),
    ("widowx.launch.py", {"driver": "none"}),
    ("widowx.launch.py", {"driver": "none", "model": "wxai"}),
]
# Arguments that are for one parameter alone.
ARGUMENTS = {
    "autostart": ("autostart", "false", False),
    "use_sim_time": ("use_sim_time", "true", True),
    "checkpoint": ("policy.checkpoint", "mine", "mine"),
    "unnorm_key": ("policy.unnorm_key", "mine", "mine"),
    "adapted": ("policy.adapted", "mine", "mine"),
    "suite": ("suite", "libero_spatial", "libero_spatial"),
    "task": ("task", "7", 7),
    "initial_state": ("initial_state", "41", 41),
}


@pytest.fixture(autouse=True)
def all_messages(monkeypatch):
    """Every message package counts as installed, and every policy as there: here it is about values."""
    monkeypatch.setattr(module, "_refuse_missing_messages", lambda *_: None)
    monkeypatch.setattr(module, "_refuse_policy", lambda *_: None)


def nodes(file, given, **arguments):
    """Parameters of the package's nodes, by full name, and the notes."""
    given = given | {name: str(value) for name, value in arguments.items()}
    ready = prepare(file, given, ROOT, lambda package: "/")
    full = {a.name: a.default for a in LAUNCH_FILES[file][0]} | given
    return {node_name(p, full): p.parameters for p in ready.plan if isinstance(p, Process) and p.package == PACKAGE}, ready.notes


def other(value):
    """Another value of the same type, of a suite another suite: it is one of a few."""
    if value == "libero_spatial":
        return "libero_object"
    return {
        bool: lambda: not value,
        int: lambda: value + 1,
        float: lambda: value + 0.001,
        str: lambda: f"{value}_of_mine",
        list: lambda: [other(entry) for entry in value],
    }[type(value)]()


def written(path, parameters):
    path.write_text(json.dumps({node: {"ros__parameters": values} for node, values in parameters.items()}))
    return path


def derived(file, given):
    """What the launch file derives, by full name of the node."""
    full = {a.name: a.default for a in LAUNCH_FILES[file][0]} | given
    return {node_name(p, full): dict(p.derived) for p in LAUNCH_FILES[file][1](full) if isinstance(p, Process) and p.derived}


@pytest.mark.parametrize("file, given", CASES)
def test_what_is_derived_wins_over_the_packages_file_alone(file, given, tmp_path):
    taken, notes = nodes(file, given)
    assert not notes
    for node, values in derived(file, given).items():
        assert values.items() <= taken[node].items()
    mine = {
        node: {name: other(value) for name, value in values.items() if name not in ("arm.interface", "gripper.interface", "robot")}
        for node, values in derived(file, given).items()
    }
    if not mine:
        return
    taken, notes = nodes(file, given, params_file=written(tmp_path / "mine.yaml", mine))
    for node, values in mine.items():
        assert values.items() <= taken[node].items()
    # The frame of vla_node follows that of arm_node.
    assert len(notes) == sum(len(values) - (node == "/vla/vla_node") for node, values in mine.items())
    assert all(str(tmp_path / "mine.yaml") in note for note in notes)


def test_the_interfaces_too_are_as_the_users_file_says(tmp_path):
    mine = {"/vla/arm_node": {"arm.interface": "servo_pose", "gripper.interface": "franka", "tip_link": "my_tool"}}
    taken, notes = nodes("franka.launch.py", {"driver": "none"}, params_file=written(tmp_path / "mine.yaml", mine))
    assert mine["/vla/arm_node"].items() <= taken["/vla/arm_node"].items()
    assert notes[0].startswith("arm_node: tip_link is my_tool as ") and "not fr3_hand_tcp" in notes[0]


def test_the_base_frame_of_the_arm_is_that_of_the_policy_too(tmp_path):
    mine = written(tmp_path / "mine.yaml", {"/vla/arm_node": {"base_frame": "table"}})
    taken, _ = nodes("franka.launch.py", {"driver": "none"}, params_file=mine)
    assert taken["/vla/vla_node"]["base_frame"] == taken["/vla/arm_node"]["base_frame"] == "table"
    elsewhere, _ = nodes("franka.launch.py", {"driver": "none", "nodes": "vla"}, params_file=mine)
    assert elsewhere["/vla/vla_node"]["base_frame"] == "table"


def test_two_base_frames_are_refused(tmp_path):
    mine = written(tmp_path / "mine.yaml", {"/vla/arm_node": {"base_frame": "table"}, "/vla/vla_node": {"base_frame": "desk"}})
    with pytest.raises(ValueError, match="base_frame is table of arm_node, but desk of vla_node: .* give all the same"):
        nodes("franka.launch.py", {"driver": "none"}, params_file=mine)


@pytest.mark.parametrize(
    "file, argument", [(file, a.name) for file, (arguments, _) in LAUNCH_FILES.items() for a in arguments if a.name in ARGUMENTS]
)
def test_an_argument_for_one_parameter_wins_where_it_is_given_and_only_there(file, argument, tmp_path):
    given = {} if file == "sim.launch.py" else {"driver": "none"}
    parameter, text, value = ARGUMENTS[argument]
    before, _ = nodes(file, given)
    having = [node for node, values in before.items() if parameter in values or parameter == "use_sim_time"]
    mine = {node: {parameter: other(value)} for node in having}
    path = written(tmp_path / "mine.yaml", mine)
    assert (
        all(values[parameter] == other(value) for node, values in nodes(file, given, params_file=path)[0].items() if node in having)
        and having
    )
    taken, _ = nodes(file, given | {argument: text}, params_file=path)
    assert all(taken[node][parameter] == value for node in having)


@pytest.mark.parametrize("file, given", CASES)
def test_a_file_with_one_limit_leaves_all_others_as_in_the_packages_file(file, given, tmp_path):
    before, _ = nodes(file, given)
    after, _ = nodes(file, given, params_file=written(tmp_path / "mine.yaml", {"/vla/arm_node": {"limits.linear_velocity": 0.05}}))
    assert after["/vla/arm_node"] == before["/vla/arm_node"] | {"limits.linear_velocity": 0.05}
    assert after["/vla/vla_node"] == before["/vla/vla_node"]


@pytest.mark.parametrize(
    "file, name", [("sim.launch.py", "sim.yaml"), ("franka.launch.py", "franka.yaml"), ("widowx.launch.py", "widowx.yaml")]
)
def test_a_config_folder_here_replaces_nothing(file, name, tmp_path, monkeypatch):
    (tmp_path / "config").mkdir()
    written(tmp_path / "config" / name, {"/**/arm_node": {"limits.linear_velocity": 1.9}})
    monkeypatch.chdir(tmp_path)
    taken, _ = nodes(file, {} if file == "sim.launch.py" else {"driver": "none"})
    own = values_of(read(ROOT / "config" / name), "/vla/arm_node")
    assert taken["/vla/arm_node"]["limits.linear_velocity"] == own["limits.linear_velocity"]
    mine, _ = nodes(file, {} if file == "sim.launch.py" else {"driver": "none"}, params_file=f"config/{name}")
    assert mine["/vla/arm_node"]["limits.linear_velocity"] == 1.9, "a path that is given is one of this folder"


@pytest.mark.parametrize("file, given", CASES)
def test_the_file_of_the_arm_and_then_yours_lie_over_the_settings_of_the_decoders(file, given, tmp_path):
    shared = values_of(read(ROOT / "config" / "decoder.yaml"), "/vla/vla_node")
    arm = values_of(read(ROOT / parameter_files(file, given)[1]), "/vla/vla_node")
    assert "decoder.kalman_gate" in shared and "decoder.kalman_gate" not in arm
    mine = {"decoder.kalman_gate": 0.7, "decoder.name": "prefill"}
    taken, _ = nodes(file, given, params_file=written(tmp_path / "mine.yaml", {"/vla/vla_node": mine}))
    assert {name: taken["/vla/vla_node"][name] for name in shared} == shared | {
        name: value for name, value in arm.items() if name in shared
    } | mine
