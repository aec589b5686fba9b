# SPDX-License-Identifier: Apache-2.0
"""`vla-sd robot`: an arm by its vendor's library, arm_node and vla_node as processes, without a ROS installation.

What franka.launch.py and widowx.launch.py start with driver:=direct, for a machine without `launch`: the same plan, with the
same parameters.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_sd_ros import inputs
from vla_sd_ros.bringup import LAUNCH_FILES, NAV2, REAL, Argument, Process
from vla_sd_ros.environment import LAST_DOMAIN, check_environment, start_ros
from vla_sd_ros.inputs import BadInput
from vla_sd_ros.node_names import DISCOVERY, namesakes
from vla_sd_ros.supervisor import ChildEnded, Interrupted, Supervisor


@dataclass(frozen=True)
class DirectArm:
    """An arm by pip: what it is, its launch file, what that is given here, and the arguments that are left to the user."""

    summary: str
    file: str
    given: Mapping[str, str]
    own: tuple[str, ...]


DIRECT = {"driver": "direct"}
FR3 = ("robot_ip", "realtime", "robot_type", "load_gripper")
ARMS = {
    "franka": DirectArm("an FR3, with franky-control", "franka.launch.py", DIRECT, FR3),
    "wxai": DirectArm(
        "a WidowX AI, with trossen-arm", "widowx.launch.py", DIRECT | {"model": "wxai"}, ("ip_address", "arm_variant")
    ),
}
# Of the others, what this command decides itself.
DECIDED = ("driver", "nodes", "autostart", "use_sim_time", "use_respawn", "use_rviz", "log_level")
LAST = ("vla_node", "arm_node")  # are stopped in this order, the driver after them: each finds a robot that still listens
READY_TIMEOUT = 600.0  # s, for a model to be loaded
LOOK = 0.25  # s, between two questions for a node's state
STUCK = 2.0  # s in a state that a node which starts itself only passes through
POLL = 0.1  # s


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare a subcommand of `vla-sd robot` for each arm, with the arguments of its launch file."""
    arms = parser.add_subparsers(dest="arm", metavar="ARM", required=True)
    for name, arm in ARMS.items():
        subparser = arms.add_parser(name, help=arm.summary, description=f"Drives {arm.summary}. Ctrl-C brings the arm to rest.")
        for argument in _offered(arm):
            subparser.add_argument(
                f"--{argument.name.replace('_', '-')}",
                dest=argument.name,
                default=argument.default,
                choices=argument.choices or None,
                help=argument.description,
                type=inputs.namespace if argument.name == "namespace" else str,
            )
        subparser.add_argument("--domain-id", type=inputs.whole(0, LAST_DOMAIN), help="ROS domain; default: ROS_DOMAIN_ID, or 0")
        subparser.add_argument("--output-dir", type=inputs.path, default=Path("runs"), help="folder for the nodes' logs")


def _offered(arm: DirectArm) -> list[Argument]:
    """The arguments of the arm's launch file that mean something here."""
    common = [argument.name for argument in (*NAV2, *REAL) if argument.name not in DECIDED]
    return [argument for argument in LAUNCH_FILES[arm.file][0] if argument.name in (*arm.own, *common)]


def run(arguments: argparse.Namespace) -> int:
    """Exit code 130, 143: stopped by SIGINT, SIGTERM, the arm at rest. 1: a process ended by itself. 2: nothing began."""
    from vla_sd_ros.demo import new_run_folder

    environment = prepare_environment(arguments.domain_id)
    check_environment()
    plan, notes = plan_of(arguments)
    refuse_no_policy(plan)
    for note in notes:
        print(note)
    folder = new_run_folder(arguments.output_dir)
    with Supervisor(environment, folder / "logs") as supervisor:
        try:
            return _drive(arguments, plan, supervisor, folder)
        except ChildEnded as error:
            print(f"vla-sd robot: {error}\nThe processes' own words are in {folder / 'logs'}.", file=sys.stderr)
            return 1
        except Interrupted as error:
            print(f"{error}: the arm comes to rest", flush=True)
            return 128 + error.number
        finally:
            for name in LAST:
                supervisor.stop([name] if name in supervisor.children else [])
            supervisor.stop()


def plan_of(arguments: argparse.Namespace) -> tuple[list[Process], list[str]]:
    """What is started, with all parameters; sentences for the user. Raises BadInput."""
    from ament_index_python.packages import get_package_prefix

    from vla_sd_ros.ament import share
    from vla_sd_ros.prepare import prepare

    arm = ARMS[arguments.arm]
    given = {argument.name: getattr(arguments, argument.name) for argument in _offered(arm)}
    if given.get("robot_ip") == "":
        raise BadInput("give --robot-ip ADDRESS of the robot's control box")
    try:
        ready = prepare(arm.file, {**arm.given, **given}, share(), get_package_prefix)
    except (ValueError, FileNotFoundError) as error:
        raise BadInput(str(error)) from error
    return [part for part in ready.plan if isinstance(part, Process)], ready.notes  # a direct driver includes no launch file


def refuse_no_policy(plan: list[Process]) -> None:
    """Raises BadInput where nothing is named that decides: an arm would be driven that nobody commands."""
    from vla_sd_ros.nodes.vla_parameters import where

    for process in plan:
        if process.executable == "vla_node":
            try:
                where(dict(process.parameters))
            except ValueError as error:
                raise BadInput(str(error)) from error


def prepare_environment(domain: int | None) -> dict[str, str]:
    """Set what ROS reads, for this process and its children; returns the children's environment."""
    from vla_sd_ros.ament import use_wheel_prefix

    use_wheel_prefix()
    if domain is not None:
        os.environ["ROS_DOMAIN_ID"] = str(domain)
    # Inference takes one core; with more threads each, the processes would fight for what is left.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return dict(os.environ, PYTHONUNBUFFERED="1")


def command(process: Process, namespace: str, folder: Path) -> list[str]:
    """The command line of a node, with its parameters in a file in the folder."""
    file = folder / f"{process.executable}.yaml"
    file.write_text(json.dumps({"/**": {"ros__parameters": _started(process.executable, process.parameters)}}))
    remaps = [word for own, theirs in process.remaps.items() for word in ("-r", f"{own}:={theirs}")]
    return [
        sys.executable,
        "-m",
        "vla_sd_ros.nodes",
        process.executable,
        "--ros-args",
        "-r",
        f"__ns:=/{namespace}",
        "--params-file",
        str(file),
        *remaps,
    ]


def _started(executable: str, parameters: Mapping[str, object]) -> dict[str, object]:
    return {**parameters, "autostart": True} if executable in LAST else dict(parameters)


class Starting:
    """A node that configures and activates itself, by its lifecycle state, for which its service is asked."""

    def __init__(self, node: Any, name: str):
        from lifecycle_msgs.msg import State
        from lifecycle_msgs.srv import GetState

        self._request, self._client = GetState.Request(), node.create_client(GetState, f"{name}/get_state")
        self._passed = {State.PRIMARY_STATE_UNCONFIGURED, State.PRIMARY_STATE_INACTIVE}  # on the way to active, in no time
        self._active = State.PRIMARY_STATE_ACTIVE
        self._state, self._since = State.PRIMARY_STATE_UNKNOWN, 0.0
        self.stuck = False  # it could not configure, or not activate

    @property
    def active(self) -> bool:
        """Whether it has come to the end of its start."""
        return self._state == self._active

    def look(self) -> None:
        """Ask; the answer is heard when the client's node is spun."""
        if self._client.service_is_ready():
            self._client.call_async(self._request).add_done_callback(self._on_answer)

    def _on_answer(self, answered: Any) -> None:
        state, now = answered.result().current_state.id, time.monotonic()
        if state != self._state:
            self._state, self._since = state, now
        self.stuck = state in self._passed and now - self._since > STUCK


def _wait_until_active(client: Any, supervisor: Supervisor) -> None:
    """Until the nodes that start themselves have done so. Raises ChildEnded where a process has ended, or a node could not."""
    deadline, nodes = time.monotonic() + READY_TIMEOUT, {name: Starting(client.node, name) for name in LAST}
    while late := [name for name, node in nodes.items() if not node.active]:
        supervisor.check()
        for name in late:
            if nodes[name].stuck or time.monotonic() > deadline:
                raise ChildEnded(f"{name} did not become active: {supervisor.children[name].sentence()}")
            nodes[name].look()
        client.spin_until(lambda: False, LOOK)


def _drive(arguments: argparse.Namespace, plan: list[Process], supervisor: Supervisor, folder: Path) -> int:
    start_ros()
    import rclpy

    from vla_sd_ros.client import InstructionClient

    namespace = arguments.namespace
    client = InstructionClient(namespace, "vla_sd_robot")
    try:
        if there := namesakes(client, [process.executable for process in plan], within=DISCOVERY, check=supervisor.check):
            raise BadInput(
                f"in ROS domain {os.environ.get('ROS_DOMAIN_ID') or 0} there is {' and '.join(there)} already, and an arm must have one "
                "master: end it, or give another --domain-id or --namespace"
            )
        for process in plan:
            supervisor.start(process.executable, command(process, namespace, folder))
        print(f"starting {', '.join(supervisor.children)}; their logs are in {folder / 'logs'}", flush=True)
        _wait_until_active(client, supervisor)
        print(f'ready: vla-sd send --namespace {namespace} "put the bowl on the plate"', flush=True)
        while True:
            supervisor.check()
            client.spin_until(lambda: False, POLL)
    finally:
        client.close()
        rclpy.try_shutdown()
