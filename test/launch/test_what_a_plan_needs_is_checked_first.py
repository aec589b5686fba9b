# SPDX-License-Identifier: Apache-2.0
"""Before the first process starts: packages, executables, launch files, messages, files; each that is missing is one sentence."""

from pathlib import Path

import pytest
import yaml

from vla_sd_ros import prepare as module
from vla_sd_ros import sources
from vla_sd_ros.arms import gripper_action, gripper_franka, interbotix, servo
from vla_sd_ros.bringup import Include
from vla_sd_ros.prepare import prepare, rewritten

ROOT = Path(__file__).parents[2]
FRANKA = {"robot_ip": "172.16.0.2"}


class Installed:
    """A folder with the ROS packages that are said to be installed."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __call__(self, package: str) -> str:
        if not (self.folder / "share" / package).is_dir():
            raise KeyError(package)
        return str(self.folder)

    def add(self, package: str, *files: str) -> "Installed":
        (self.folder / "share" / package).mkdir(parents=True, exist_ok=True)
        for file in files:
            path = self.folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return self


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """All message packages, and no others until they are added."""
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None if name in missing else object())
    missing = set()
    packages = Installed(tmp_path / "ros")
    packages.without = missing.add
    return packages


def ready(file, given, installed):
    return prepare(file, given, ROOT, installed)


def with_driver(installed):
    return (
        installed.add("franka_bringup", "share/franka_bringup/launch/franka.launch.py")
        .add("controller_manager", "lib/controller_manager/spawner")
        .add("crisp_controllers")
    )


def test_everything_there(installed):
    assert ready("franka.launch.py", FRANKA, with_driver(installed)).plan


@pytest.mark.parametrize(
    "file, given, sentence",
    [
        (
            "franka.launch.py",
            FRANKA,
            "driver's package franka_bringup is not installed: .*clone https://github.com/frankarobotics/franka_ros2 .branch "
            "jazzy.*driver:=none",
        ),
        ("widowx.launch.py", {}, "package interbotix_xsarm_control .*Interbotix/interbotix_ros_manipulators .branch jazzy"),
        ("widowx.launch.py", {"model": "wxai"}, "package trossen_arm_bringup .*TrossenRobotics/trossen_arm_ros .branch jazzy"),
        ("sim.launch.py", {"use_rviz": "true"}, "use_rviz:=true needs rviz2, which is not installed"),
        ("sim.launch.py", {"params_file": "typo.yaml"}, "params_file:=typo.yaml: there is no file /.*/typo.yaml; without"),
        ("widowx.launch.py", {"driver": "none", "mode_configs": "config/widowx_modes.yaml"}, "mode_configs:=.* there is no file"),
    ],
)
def test_what_is_not_there_is_one_sentence(installed, file, given, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=sentence) as error:
        ready(file, given, installed)
    assert "\n" not in str(error.value)


def test_a_package_without_the_executable_or_the_launch_file_is_told_too(installed):
    installed.add("rviz2").add("franka_bringup")
    with pytest.raises(ValueError, match="use_rviz:=true needs rviz2, which the package rviz2 in .* does not have"):
        ready("sim.launch.py", {"use_rviz": "true"}, installed)
    with pytest.raises(ValueError, match="franka_bringup in .* has no launch file franka.launch.py"):
        ready("franka.launch.py", FRANKA, installed)


def test_crisp_is_needed_where_its_controller_is_loaded(installed):
    installed.add("franka_bringup", "share/franka_bringup/launch/franka.launch.py")
    installed.add("controller_manager", "lib/controller_manager/spawner")
    with pytest.raises(ValueError, match="needs crisp_controllers, .*utiasDSL/crisp_controllers"):
        ready("franka.launch.py", FRANKA, installed)
    assert ready("franka.launch.py", FRANKA | {"controller": "servo_pose"}, installed).plan


@pytest.mark.parametrize(
    "file, given, package",
    [
        ("sim.launch.py", {"arm": "widowx"}, "interbotix_xs_msgs"),
        ("widowx.launch.py", {"driver": "sim"}, "interbotix_xs_msgs"),
        ("franka.launch.py", {"driver": "sim"}, "franka_msgs"),
        ("widowx.launch.py", {"driver": "none"}, "interbotix_xs_msgs"),
        ("franka.launch.py", {"driver": "none", "controller": "servo_pose"}, "moveit_msgs"),
        ("widowx.launch.py", {"driver": "none", "model": "wxai"}, "control_msgs"),
        ("widowx.launch.py", {"driver": "none", "model": "wxai"}, "controller_manager_msgs"),
        ("franka.launch.py", {"driver": "none", "controller": "joint_trajectory"}, "controller_manager_msgs"),
    ],
)
def test_messages_are_needed_where_arm_node_runs(installed, file, given, package):
    assert ready(file, given, installed).plan
    installed.without(package)
    with pytest.raises(ValueError, match=f"needs the ROS package {package}, which cannot be imported: "):
        ready(file, given, installed)
    if file != "sim.launch.py" and given.get("driver") == "none":
        assert ready(file, given | {"nodes": "vla"}, installed).plan


def test_messages_follow_the_interface_of_the_users_file(installed, tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("/**/arm_node: {ros__parameters: {gripper.interface: gripper_command}}")
    installed.without("franka_msgs")
    assert ready("franka.launch.py", {"driver": "none", "params_file": str(mine)}, installed).plan
    installed.without("control_msgs")
    with pytest.raises(ValueError, match="arm_node with gripper.interface gripper_command needs the ROS package control_msgs"):
        ready("franka.launch.py", {"driver": "none", "params_file": str(mine)}, installed)


def test_the_messages_of_each_interface_are_those_that_its_file_imports():
    rooms = {
        "servo_twist": servo,
        "servo_pose": servo,
        "interbotix_joint_group": interbotix,
        "franka": gripper_franka,
        "gripper_command": gripper_action,
        "parallel_gripper_command": gripper_action,
        "interbotix_joint_single": interbotix,
    }
    assert set(rooms) == set(sources.MESSAGES)
    for interface, room in rooms.items():
        assert f'required("{sources.MESSAGES[interface]}.' in Path(room.__file__).read_text()


@pytest.mark.parametrize(
    "package, distribution, said",
    [
        ("control_msgs", "jazzy", "sudo apt install ros-jazzy-control-msgs"),
        ("moveit_msgs", "", "there is no wheel of it"),
        ("franka_msgs", "jazzy", "clone https://github.com/frankarobotics/franka_ros2 (branch jazzy) into"),
        ("franka_msgs", "lyrical", "(branch jazzy, there is none for lyrical)"),
        ("crisp_controllers", "kilted", "(branch main) into"),
    ],
)
def test_the_advice_is_true_for_the_distribution(package, distribution, said, monkeypatch):
    monkeypatch.setenv("ROS_DISTRO", distribution)
    advice = sources.advice(package)
    assert said in advice and ("apt" in advice) <= (package not in sources.REPOSITORIES)


def test_every_repository_is_named_in_the_manual():
    manual = (ROOT / "docs" / "arms.md").read_text()
    for repository, branch in sources.REPOSITORIES.values():
        assert f"github.com/{repository}" in manual and f"`{branch}`" in manual


def controllers(tmp_path, installed, text):
    path = tmp_path / "controllers.yaml"
    path.write_text(text)
    given = FRANKA | {"controllers_yaml": str(path), "controller_name": "cartesian_impedance_controller"}
    return ready("franka.launch.py", given, with_driver(installed))


def test_a_file_of_controllers_has_both_broadcasters_and_what_is_loaded(installed, tmp_path):
    text = (ROOT / "config" / "franka_controllers.yaml").read_text()
    assert controllers(tmp_path, installed, text).plan
    for name in ("joint_state_broadcaster", "franka_robot_state_broadcaster", "cartesian_impedance_controller"):
        with pytest.raises(ValueError, match=f"controllers.yaml has no {name}.type under controller_manager"):
            controllers(tmp_path, installed, text.replace(f"    {name}:", "    another:"))


@pytest.mark.parametrize(
    "given, robot, tip",
    [
        ({}, "fr3", "fr3_hand_tcp"),
        ({"robot_type": "fer", "arm_prefix": "left"}, "left_fer", "left_fer_hand_tcp"),
        ({"load_gripper": "false"}, "fr3", "fr3_link8"),
    ],
)
def test_the_shipped_controllers_are_for_the_arm_and_the_tip_of_arm_node(installed, given, robot, tip):
    plan = ready("franka.launch.py", FRANKA | given, with_driver(installed)).plan
    driver = next(part for part in plan if isinstance(part, Include))
    text = rewritten((ROOT / driver.arguments["controllers_yaml"]).read_text(), driver.renamed)
    controller = yaml.safe_load(text)["/**/cartesian_impedance_controller"]["ros__parameters"]
    arm = next(p.parameters for p in plan if not isinstance(p, Include) and p.executable == "arm_node")
    assert controller["joints"] == arm["joint_names"] == [f"{robot}_joint{i}" for i in range(1, 8)]
    assert controller["end_effector_frame"] == arm["tip_link"] == tip and controller["base_frame"] == arm["base_frame"]
    (spawner,) = [p for p in plan if not isinstance(p, Include) and p.executable == "spawner"]
    assert spawner.arguments == ("cartesian_impedance_controller",)


def test_the_shipped_controllers_have_parameters_that_upstream_declares():
    """Those of crisp_controllers 8093548, src/cartesian_impedance_controller.yaml, as far as they are used."""
    file = yaml.safe_load((ROOT / "config" / "franka_controllers.yaml").read_text())
    controller = file["/**/cartesian_impedance_controller"]["ros__parameters"]
    assert set(controller) <= {
        "joints",
        "end_effector_frame",
        "base_frame",
        "task",
        "nullspace",
        "filter",
        "use_friction",
        "use_coriolis_compensation",
        "use_gravity_compensation",
        "use_local_jacobian",
    }
    assert set(controller["task"]) == {f"k_{kind}_{axis}" for kind in ("pos", "rot") for axis in "xyz"}
    assert set(controller["nullspace"]) == {"stiffness"} and set(controller["filter"]) == {"q", "dq", "output_torque"}
    numbers = [*controller["task"].values(), *controller["nullspace"].values(), *controller["filter"].values()]
    assert all(type(number) is float for number in numbers), "rcl takes no integer for a double"


@pytest.mark.parametrize("topic", ["my camera!", "9/image", "", "/camera/"])
def test_a_topic_that_is_none(installed, topic):
    with pytest.raises(ValueError, match="is no name of a topic"):
        ready("franka.launch.py", {"driver": "direct", "robot_ip": "172.16.0.2", "image_topic": topic}, installed)


@pytest.mark.parametrize("namespace", ["my robot", "9arm", "a//b"])
def test_a_namespace_that_is_none(installed, namespace):
    with pytest.raises(ValueError, match="is no ROS namespace"):
        ready("sim.launch.py", {"namespace": namespace}, installed)
