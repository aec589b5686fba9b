# SPDX-License-Identifier: Apache-2.0
"""The simulated Franka: sim_node, arm_node and vla_node with one parameter file.

    ros2 launch vla_sd_ros sim.launch.py
    ros2 launch vla_sd_ros sim.launch.py suite:=libero_spatial task:=3
    ros2 launch vla_sd_ros sim.launch.py autostart:=false     # then: ros2 lifecycle set /vla/vla_node configure

A node that ends takes the others with it, unless use_respawn is true, which starts it again.
"""
import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable, Shutdown
from launch_ros.actions import Node

PACKAGE = "vla_sd_ros"
BOOLEAN = ["true", "false"]
LEVELS = ["debug", "info", "warn", "error", "fatal"]


def generate_launch_description() -> LaunchDescription:
    parameters = os.path.join(get_package_share_directory(PACKAGE), "config", "sim.yaml")
    return LaunchDescription([
        _argument("namespace", "vla", "Namespace of the three nodes and of their topics."),
        _argument("params_file", parameters, "Parameter file of the three nodes."),
        _argument("autostart", "true", "Configure and activate vla_node and arm_node at once.", BOOLEAN),
        _argument("use_sim_time", "false", "Take time from /clock, which sim_node then publishes.", BOOLEAN),
        _argument("use_respawn", "false", "Start a node that ended again, instead of stopping all.", BOOLEAN),
        _argument("log_level", "info", "Least severe log message that is shown.", LEVELS),
        _argument("suite", "", "LIBERO suite of the scene; empty: that of the parameter file."),
        _argument("task", "", "Index of the task in the suite, 0..9; empty: that of the parameter file."),
        _argument("initial_state", "", "Index of the initial state, 0..49; empty: that of the parameter file."),
        _argument("checkpoint", "", "Policy of vla_node; empty: that of the parameter file."),
        # Inference takes one core; with more threads each, the processes would fight for what is left.
        SetEnvironmentVariable("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1")),
        OpaqueFunction(function=_nodes),
    ])


def _argument(name: str, default: str, description: str, choices: list[str] | None = None) -> DeclareLaunchArgument:
    return DeclareLaunchArgument(name, default_value=default, description=description, choices=choices)


def _nodes(context: LaunchContext) -> list[Node]:
    given = context.launch_configurations
    scene = {name: int(given[name]) for name in ("task", "initial_state") if given[name]}
    if given["suite"]:
        scene["suite"] = given["suite"]
    autostart = {"autostart": given["autostart"] == "true"}
    policy = {"policy.checkpoint": given["checkpoint"]} if given["checkpoint"] else {}
    return [
        _node("sim_node", given, scene),
        _node("arm_node", given, autostart),
        _node("vla_node", given, autostart | policy),
    ]


def _node(name: str, given: dict[str, str], parameters: dict) -> Node:
    """One node. What is set by arguments comes after the parameter file and wins."""
    respawn = given["use_respawn"] == "true"
    return Node(
        package=PACKAGE, executable=name, name=name, namespace=given["namespace"], output="screen", emulate_tty=True,
        parameters=[given["params_file"], {"use_sim_time": given["use_sim_time"] == "true"} | parameters],
        ros_arguments=["--log-level", given["log_level"]], respawn=respawn, respawn_delay=2.0,
        on_exit=None if respawn else Shutdown(reason=f"{name} ended"),
    )
