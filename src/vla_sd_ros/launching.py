# SPDX-License-Identifier: Apache-2.0
"""A launch description from the plain data of bringup.py. Needs launch and launch_ros, which only ROS itself brings."""

import os
import posixpath

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import (DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction,
                            SetEnvironmentVariable, Shutdown)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import Node

from vla_sd_ros.bringup import LAUNCH_FILES, PACKAGE, Include, Process


def description(file: str) -> LaunchDescription:
    """What the launch file of this name starts. A node that ends takes the others with it, unless use_respawn is true."""
    arguments, plan = LAUNCH_FILES[os.path.basename(file)]

    def start(context: LaunchContext) -> list:
        given = {a.name: context.launch_configurations[a.name] for a in arguments}
        actions = []
        for action in plan({name: _installed(value) for name, value in given.items()}):
            actions.append(_include(action) if isinstance(action, Include) else _node(action, given))
        return actions

    return LaunchDescription([
        *(DeclareLaunchArgument(a.name, default_value=a.default, description=a.description, choices=list(a.choices) or None)
          for a in arguments),
        # Inference takes one core; with more threads each, the processes would fight for what is left.
        SetEnvironmentVariable("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1")),
        OpaqueFunction(function=start),
    ])


def _installed(value: str) -> str:
    """config/NAME is the package's own file, unless there is one of that name here."""
    if value.startswith("config/") and not os.path.exists(value):
        return os.path.join(get_package_share_directory(PACKAGE), value)
    return value


def _node(process: Process, given: dict[str, str]) -> Node:
    respawn = given["use_respawn"] == "true"
    name = process.executable
    ours = process.package == PACKAGE
    namespace = given["namespace"] if process.namespace is None else process.namespace
    # Without ROS_SECURITY_ENABLE the enclave has no effect.
    enclave = ["--enclave", posixpath.join("/", namespace.strip("/"), name)] if ours else []
    common = [_installed(given["params_file"]), {"use_sim_time": given["use_sim_time"] == "true"}] if ours else []
    return Node(
        package=process.package, executable=name, name=name if ours else None, output="screen", emulate_tty=True,
        namespace=namespace,
        parameters=common + ([dict(process.parameters)] if process.parameters else []),
        remappings=list(process.remaps.items()), arguments=[_installed(argument) for argument in process.arguments],
        ros_arguments=["--log-level", given["log_level"], *enclave], respawn=respawn and ours, respawn_delay=2.0,
        on_exit=Shutdown(reason=f"{name} ended") if ours and not respawn else None,
    )


def _include(include: Include) -> GroupAction:
    try:
        folder = get_package_share_directory(include.package)
    except PackageNotFoundError as error:
        raise RuntimeError(f"the driver's package {include.package} is not installed: install and source it, or give "
                           "driver:=none where the driver runs elsewhere, driver:=sim for a simulated one") from error
    source = PythonLaunchDescriptionSource(os.path.join(folder, "launch", include.file))
    # Not forwarding: an included file would take our arguments for its own wherever they have the same name, such as
    # namespace, or an empty controllers_yaml instead of its default.
    return GroupAction([IncludeLaunchDescription(source, launch_arguments=dict(include.arguments).items())],
                       scoped=True, forwarding=False)
