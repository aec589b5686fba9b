# SPDX-License-Identifier: Apache-2.0
"""A launch description from the plain data of bringup.py. Needs launch and launch_ros, which only ROS itself brings."""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile

from ament_index_python.packages import get_package_prefix, get_package_share_directory
from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.event_handlers import OnProcessExit, OnProcessStart, OnShutdown
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription
from vla_sd_ros.ament import share
from vla_sd_ros.bringup import LAUNCH_FILES, PACKAGE, Include, Process
from vla_sd_ros.prepare import node_name, prepare, rewritten

BEGINNING = 0.3  # s, within which a process that is being started when all end is known
POLL = 0.05  # s


def description(file: str) -> LaunchDescription:
    """What the launch file of this name starts. A node that ends takes the others with it; with use_respawn only arm_node does.

    All is checked before the first process starts: what is missing or wrong is one sentence, and exit code 1.
    """
    file = os.path.basename(file)
    arguments = LAUNCH_FILES[file][0]
    end = End()

    def start(context: LaunchContext) -> list:
        given = {a.name: context.launch_configurations[a.name] for a in arguments}
        ready = prepare(file, given, share(), get_package_prefix)
        actions: list[Action] = [LogInfo(msg=note) for note in ready.notes]
        for part in ready.plan:
            actions.append(_include(part) if isinstance(part, Include) else _node(part, given, end))
        return actions

    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(a.name, default_value=a.default, description=a.description, choices=list(a.choices) or None)
                for a in arguments
            ),
            # Inference takes one core; with more threads each, the processes would fight for what is left.
            SetEnvironmentVariable("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1")),
            RegisterEventHandler(OnProcessStart(on_start=end.started)),
            RegisterEventHandler(OnProcessExit(on_exit=end.exited)),
            RegisterEventHandler(OnShutdown(on_shutdown=end.shutdown)),
            OpaqueFunction(function=start),
        ]
    )


class End:
    """Sees to it that nothing outlives the launch, and that it does not end with 0 when a node failed.

    launch itself forgets the processes that it had started when an action after them raises, such as a node of the
    driver whose package is missing, and then ends before them. While it goes on, its own signals reach them.
    """

    def __init__(self):
        self._running: set[int] = set()
        self._failure = ""

    def started(self, event, _context) -> None:
        """A process of the launch began."""
        self._running.add(event.pid)

    def exited(self, event, _context) -> None:
        """A process of the launch ended."""
        self._running.discard(event.pid)

    def required(self, name: str, always: bool) -> Callable:
        """What to do when this process ends: end all; always: also when it ends with 0."""

        def ended(event: ProcessExited, context: LaunchContext) -> Shutdown | None:
            if context.is_shutdown or not (always or event.returncode):
                return None
            if event.returncode not in (0, -signal.SIGINT):
                self._failure = f"{name} ended with exit code {event.returncode}"
            return Shutdown(reason=f"{name} ended")

        return ended

    def shutdown(self, _event, _context) -> Action:
        """What the launch does at its end: wait for all processes."""
        return _Coroutine(self._wait)

    async def _wait(self) -> None:
        await asyncio.sleep(BEGINNING)
        while self._running:
            await asyncio.sleep(POLL)
        if self._failure:
            failure, self._failure = self._failure, ""
            raise RuntimeError(failure)  # the only way to an exit code of launch


class _Coroutine(Action):
    """Keeps the launch going until the coroutine has ended."""

    def __init__(self, function: Callable):
        super().__init__()
        self._function, self._task = function, None

    def execute(self, context: LaunchContext) -> None:
        """Start the coroutine on the launch's event loop."""
        self._task = context.asyncio_loop.create_task(self._function())

    def get_asyncio_future(self):
        """What launch waits for."""
        return self._task


def _installed(value: str) -> str:
    """config/NAME is the package's own file; files that the user names have absolute paths."""
    return str(share(*value.split("/"))) if value.startswith("config/") else value


def _node(process: Process, given: dict[str, str], end: End) -> Node:
    respawn = given["use_respawn"] == "true" and process.respawn
    name, node = process.executable, node_name(process, given)
    if process.package != PACKAGE:
        return Node(
            package=process.package,
            executable=name,
            output="screen",
            emulate_tty=True,
            namespace=node.rpartition("/")[0],
            remappings=list(process.remaps.items()),
            arguments=[_installed(argument) for argument in process.arguments],
            # RViz shows the arm and does not move it; a controller that cannot be loaded leaves nothing to command.
            on_exit=end.required(name, always=False) if name == "spawner" else None,
        )
    # The logger of the node alone: with debug, those of the middleware write a thousand lines a second.
    level = f"{node.strip('/').replace('/', '.')}:={given['log_level']}"
    parameters = {key: _installed(value) if isinstance(value, str) else value for key, value in process.parameters.items()}
    return Node(
        package=process.package,
        executable=name,
        name=name,
        namespace=node.rpartition("/")[0],
        output="screen",
        emulate_tty=True,
        parameters=[_written({"/**": {"ros__parameters": parameters}})],
        remappings=list(process.remaps.items()),
        # Without ROS_SECURITY_ENABLE the enclave has no effect.
        ros_arguments=["--log-level", level, "--enclave", node],
        respawn=respawn,
        respawn_delay=2.0,
        on_exit=None if respawn else end.required(name, always=True),
    )


def _include(include: Include) -> GroupAction:
    folder = get_package_share_directory(include.package)
    source = PythonLaunchDescriptionSource(os.path.join(folder, "launch", include.file))
    arguments = {name: _renamed(value, include) for name, value in include.arguments.items()}
    # Not forwarding: an included file would take our arguments for its own wherever they have the same name, such as
    # namespace, or an empty controllers_yaml instead of its default.
    return GroupAction([IncludeLaunchDescription(source, launch_arguments=arguments.items())], scoped=True, forwarding=False)


def _renamed(value: str, include: Include) -> str:
    if not value.startswith("config/") or not include.renamed:
        return _installed(value)
    return _temporary(rewritten(Path(_installed(value)).read_text(), include.renamed))


def _written(parameters: dict) -> str:
    """A parameter file. One for each node: of several, rcl lets the order of the sections' names decide, not of the files."""
    return _temporary(json.dumps(parameters))


def _temporary(text: str) -> str:
    with NamedTemporaryFile("w", prefix="vla_sd_ros_", suffix=".yaml", delete=False) as file:
        file.write(text)
    return file.name
