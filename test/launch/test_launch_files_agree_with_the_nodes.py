# SPDX-License-Identifier: Apache-2.0
"""What the launch files start fits the nodes: arguments, parameters and files that exist, remaps of names that are used.

Without launch: the plans are plain data (vla_sd_ros.bringup). test_sim_launch.py runs one of them where launch is installed.
"""

import ast
import inspect
import re
from pathlib import Path

import pytest
import yaml

from vla_sd_ros.arms import gripper_topic, interbotix, joint_trajectory, pose_target
from vla_sd_ros.bringup import FRANKA, FRANKA_CONTROLLERS, LAUNCH_FILES, PACKAGE, WIDOWX, Include, Process, parameter_files
from vla_sd_ros.nodes import arm_node, driver_node, franka_driver, inputs, sim_arm_node, vla_node, wxai_driver
from vla_sd_ros.nodes.lifecycle import ManagedNode
from vla_sd_ros.parameter_files import flat, read, values_of

ROOT = Path(__file__).parents[2]
SPECS = {
    "arm_node": {s.name: s for s in (ManagedNode.AUTOSTART, *arm_node.ArmNode.TABLE)},
    "vla_node": {s.name: s for s in (ManagedNode.AUTOSTART, *vla_node.VlaNode.TABLE)},
    "sim_arm_node": {s.name: s for s in sim_arm_node.SimArmNode.TABLE},
    "franka_driver": {s.name: s for s in franka_driver.FrankaDriver.TABLE},
    "wxai_driver": {s.name: s for s in wxai_driver.WxaiDriver.TABLE},
}
# The relative names in the source of what a node is made of.
SOURCES = {
    "arm_node": (arm_node, pose_target, joint_trajectory, interbotix, gripper_topic),
    "vla_node": (vla_node, inputs),
    "sim_arm_node": (sim_arm_node,),
    "franka_driver": (driver_node,),
    "wxai_driver": (driver_node,),
}
NAV2 = {"namespace", "params_file", "autostart", "use_sim_time", "use_respawn", "log_level"}
CASES = [
    *(("franka.launch.py", {"driver": "none", "controller": name}) for name in FRANKA_CONTROLLERS),
    ("franka.launch.py", {"driver": "sim"}),
    ("franka.launch.py", {"robot_ip": "172.16.0.2", "controller_name": "cartesian", "arm_prefix": "left"}),
    ("franka.launch.py", {"nodes": "arm", "driver": "none", "robot_type": "fer"}),
    ("franka.launch.py", {"nodes": "vla", "driver": "none", "checkpoint": "libero"}),
    ("widowx.launch.py", {}),
    ("widowx.launch.py", {"driver": "sim", "robot_name": "left"}),
    ("widowx.launch.py", {"model": "wxai", "driver": "none"}),
    ("widowx.launch.py", {"model": "wxai"}),
    ("franka.launch.py", {"driver": "direct", "robot_ip": "172.16.0.2", "arm_prefix": "left", "load_gripper": "false"}),
    ("widowx.launch.py", {"model": "wxai", "driver": "direct", "arm_variant": "follower"}),
    ("sim.launch.py", {}),
    ("sim.launch.py", {"arm": "widowx"}),
]


def plan(file, given):
    arguments, make = LAUNCH_FILES[file]
    defaults = {argument.name: argument.default for argument in arguments}
    assert set(given) <= set(defaults)
    return make(defaults | given)


def ours(file, given):
    return [p for p in plan(file, given) if isinstance(p, Process) and p.package == PACKAGE and p.executable in SPECS]


@pytest.mark.parametrize("file", LAUNCH_FILES)
def test_there_is_a_file_of_that_name_with_the_arguments_of_nav2(file):
    arguments, _ = LAUNCH_FILES[file]
    assert f'description("{file}")' in (ROOT / "launch" / file).read_text()
    names = [argument.name for argument in arguments]
    assert NAV2 <= set(names) and len(names) == len(set(names))
    for argument in arguments:
        assert argument.description.endswith(".") and (not argument.choices or argument.default in argument.choices)


def test_no_launch_file_is_unknown():
    assert {path.name for path in (ROOT / "launch").iterdir() if path.suffix == ".py"} == set(LAUNCH_FILES)


@pytest.mark.parametrize("file, given", CASES)
def test_the_files_of_the_package_that_a_plan_names_are_there(file, given):
    values = [*parameter_files(file, given)]
    for part in plan(file, given):
        values += part.arguments.values() if isinstance(part, Include) else [*part.arguments, *part.derived.values()]
    named = [value for value in values if str(value).startswith("config/")]
    assert named and all((ROOT / value).is_file() for value in named)


@pytest.mark.parametrize("name", ["franka.yaml", "sim.yaml", "widowx.yaml"])
@pytest.mark.parametrize("node", ["arm_node", "vla_node"])
def test_each_parameter_file_is_a_manual_of_all_declared_parameters(name, node):
    values = values_of([*read(ROOT / "config" / "decoder.yaml"), *read(ROOT / "config" / name)], f"/{node}")
    assert set(values) == set(SPECS[node])
    for key, spec in SPECS[node].items():
        assert type(values[key]) is type(spec.default), key
        spec.check(values[key])
    if node == "arm_node":
        arm_node.ArmNode.check(None, values)


@pytest.mark.parametrize("file, given", CASES)
def test_parameters_are_declared_and_valid(file, given):
    for process in ours(file, given):
        for name, value in (process.derived | process.parameters).items():
            if name == "use_sim_time":
                continue
            spec = SPECS[process.executable][name]
            assert type(value) is type(spec.default), name
            spec.check(value)


@pytest.mark.parametrize("file, given", CASES)
def test_every_remapped_name_is_one_that_the_node_uses(file, given):
    for process in ours(file, given):
        text = "".join(inspect.getsource(module) for module in SOURCES[process.executable])
        used = {node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)}
        for own, theirs in process.remaps.items():
            assert own in used, f"{process.executable} has no topic {own}"
            assert re.fullmatch(r"(/\w+)+", theirs), theirs


@pytest.mark.parametrize("file, given", CASES)
def test_driver_and_nodes_meet_on_the_same_topics(file, given):
    processes = {p.executable: p for p in ours(file, given)}
    driver, arm, vla = (processes.get(name) for name in ("sim_arm_node", "arm_node", "vla_node"))
    if arm and vla and "base_frame" in arm.derived:
        assert arm.derived["base_frame"] == vla.derived["base_frame"]
        assert arm.remaps.get("joint_states") == vla.remaps.get("joint_states")
    if driver:

        def of(name):
            return driver.remaps.get(name, f"/{driver.namespace}/{name}")

        for name in (
            "joint_states",
            "robot_description",
            "target_pose",
            "commands/joint_group",
            "commands/joint_single",
            "get_robot_info",
        ):
            if name in arm.remaps:
                assert arm.remaps[name] == of(name)
        assert vla.remaps["image"] == of("image")


@pytest.mark.parametrize("file, given", CASES)
def test_the_simulated_arm_has_the_joints_and_links_that_arm_node_is_told(file, given):
    from vla_sd_ros.sim.arms import Description

    processes = {p.executable: p for p in ours(file, given)}
    if "sim_arm_node" in processes:
        driver = processes["sim_arm_node"].derived
        values = flat(yaml.safe_load((ROOT / parameter_files(file, given)[1]).read_text())["/**/arm_node"]["ros__parameters"])
        values |= processes["arm_node"].derived
        description = Description(driver["robot"], driver["prefix"])
        assert description.joints == values["joint_names"]
        assert (description.base, description.tip) == (values["base_frame"], values["tip_link"])


@pytest.mark.parametrize("file, given", CASES)
def test_what_is_recorded_are_the_topics_that_the_nodes_use(file, given):
    from vla_sd_ros.report.bag import EPISODE_TOPICS

    assert not any(p.executable == "goal_recorder" for p in plan(file, given) if isinstance(p, Process))
    (recorder,) = [p for p in plan(file, given | {"record": "true"}) if isinstance(p, Process) and p.executable == "goal_recorder"]
    nodes = {p.executable: p for p in ours(file, given)}
    for topic in EPISODE_TOPICS:
        for node in ("arm_node", "vla_node"):
            if node in nodes and topic.name in nodes[node].remaps:
                assert recorder.remaps[topic.name] == nodes[node].remaps[topic.name]


def test_drivers_get_the_arguments_that_they_document():
    franka = plan("franka.launch.py", {"robot_ip": "172.16.0.2"})[0]
    assert isinstance(franka, Include) and (franka.package, franka.file) == ("franka_bringup", "franka.launch.py")
    assert franka.arguments == {
        "robot_ip": "172.16.0.2",
        "robot_type": "fr3",
        "arm_prefix": "",
        "load_gripper": "true",
        "controllers_yaml": "config/franka_controllers.yaml",
    }
    bare = plan("franka.launch.py", {"robot_ip": "172.16.0.2", "load_gripper": "false", "controller": "servo_twist"})[0]
    assert bare.arguments == {"robot_ip": "172.16.0.2", "robot_type": "fr3", "arm_prefix": "", "load_gripper": "false"}
    widowx = plan("widowx.launch.py", {})[0]
    assert (widowx.package, widowx.file) == ("interbotix_xsarm_control", "xsarm_control.launch.py")
    assert {"robot_model": "wx250s", "robot_name": "wx250s"}.items() <= widowx.arguments.items()
    wxai = plan("widowx.launch.py", {"model": "wxai", "ip_address": "192.168.1.4"})[0]
    assert (wxai.package, wxai.file) == ("trossen_arm_bringup", "trossen_arm.launch.py")
    assert wxai.arguments == {
        "robot_model": "wxai",
        "arm_variant": "base",
        "arm_side": "none",
        "ip_address": "192.168.1.4",
        "use_rviz": "false",
    }


@pytest.mark.parametrize(
    "file, given, frame, image",
    [
        ("sim.launch.py", {}, "panda_link0", "image"),
        ("sim.launch.py", {"arm": "widowx"}, "wx250s/base_link", "/camera/image_raw"),
        ("franka.launch.py", {"driver": "sim"}, "fr3_link0", "/camera/image_raw"),
        ("widowx.launch.py", {"driver": "none", "image_topic": "/cam"}, "wx250s/base_link", "/cam"),
        ("widowx.launch.py", {"model": "wxai", "driver": "none"}, "base_link", "/camera/image_raw"),
    ],
)
def test_rviz_is_started_where_it_is_asked_for_with_the_frame_and_the_camera_of_the_arm(file, given, frame, image):
    assert not [p for p in plan(file, given) if isinstance(p, Process) and p.executable == "rviz2"]
    (rviz,) = [p for p in plan(file, given | {"use_rviz": "true"}) if isinstance(p, Process) and p.executable == "rviz2"]
    assert rviz.arguments == ("-d", "config/vla_sd_ros.rviz", "-f", frame)
    assert rviz.remaps.get("image", "image") == image
    (arm,) = [p for p in plan(file, given) if isinstance(p, Process) and p.executable == "arm_node"]
    assert rviz.remaps.get("robot_description") == arm.remaps.get("robot_description")


@pytest.mark.parametrize(
    "file, given, sentence",
    [
        ("franka.launch.py", {}, "needs robot_ip"),
        ("franka.launch.py", {"driver": "sim", "controller": "servo_twist"}, "needs controller:=crisp"),
        ("franka.launch.py", {"driver": "sim", "load_gripper": "false"}, "load_gripper:=false needs driver"),
        ("widowx.launch.py", {"model": "wxai", "driver": "sim"}, "no simulated WidowX AI"),
        ("widowx.launch.py", {"model": "wxai", "arm_side": "left"}, "only arm_variant:=follower"),
        ("sim.launch.py", {"task": "abc"}, "task:=abc is no index: give a whole number"),
        ("sim.launch.py", {"initial_state": "-1"}, "initial_state:=-1 is no index"),
        ("sim.launch.py", {"arm": "widowx", "task": "3"}, "task is of LIBERO's scenes"),
    ],
)
def test_what_does_not_fit_together_is_one_sentence(file, given, sentence):
    with pytest.raises(ValueError, match=sentence):
        plan(file, given)


def test_an_arm_without_hand_has_its_tip_at_the_flange_and_no_action_of_a_gripper():
    (arm,) = [p for p in ours("franka.launch.py", {"driver": "none", "load_gripper": "false"}) if p.executable == "arm_node"]
    assert arm.derived["tip_link"] == "fr3_link8" and arm.derived["gripper.interface"] == "topic"


def test_two_machines_together_run_what_one_would():
    for file, rest in (("franka.launch.py", {"driver": "none"}), ("widowx.launch.py", {"driver": "none"})):
        both = [p for part in ("arm", "vla") for p in plan(file, rest | {"nodes": part})]
        assert both == plan(file, rest | {"nodes": "all"})


def test_the_modes_of_the_motors_are_streaming_profiles():
    arm = yaml.safe_load((ROOT / "config" / "widowx_modes.yaml").read_text())["groups"]["arm"]
    assert (arm["operating_mode"], arm["profile_type"]) == ("position", "time")
    assert 150 <= arm["profile_velocity"] <= 250 and arm["profile_acceleration"] <= arm["profile_velocity"] / 2
    assert {a.name for a in FRANKA} & {a.name for a in WIDOWX} >= NAV2
