# SPDX-License-Identifier: Apache-2.0
"""What a launch file starts, made ready: each node with the parameters in force, everything that it needs checked.

    ready = prepare("franka.launch.py", {"driver": "sim"}, share, get_package_prefix)   # ValueError: one sentence

Nothing has been started then, so a launch that cannot work leaves nothing behind. Which value of a parameter wins, from
the first to the last:

1. an argument of the launch file that is for this parameter alone, where it was given: autostart, use_sim_time,
   checkpoint, unnorm_key, adapted, suite, task, initial_state
2. the user's params_file
3. what the launch file derives from its other arguments: names of joints and links, interfaces, topics, actions
4. the package's own parameter files: config/first_run.yaml where first_run is true, over that of the launch file, over
   config/decoder.yaml

Where a bundle is given (policy.adapted), vla_node sets decoder.* to what it says as it is configured.
"""

import importlib.util
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeGuard

from vla_sd_ros.assembly import bundle
from vla_sd_ros.bringup import LAUNCH_FILES, PACKAGE, Argument, Include, Plan, Process, parameter_files
from vla_sd_ros.checkpoint_places import refuse_unusable
from vla_sd_ros.inputs import checked_namespace, checked_topic
from vla_sd_ros.nodes.tables import refuse_wrong
from vla_sd_ros.parameter_files import read, refuse_lost, refuse_unknown, values_of
from vla_sd_ros.sources import MESSAGES, advice


@dataclass(frozen=True)
class Ready:
    """Processes of this package have all their parameters in `parameters`. notes: sentences for the user."""

    plan: Plan
    notes: list[str]


def prepare(file: str, given: Mapping[str, str], share: Path, prefix_of: Callable[[str], str]) -> Ready:
    """The plan of the launch file of this name; `given`: its arguments, the others have their defaults.

    share: where config/ of this package is. prefix_of: the folder that a ROS package is installed in, LookupError where
    it is not.
    """
    arguments, make = LAUNCH_FILES[file]
    given = located(arguments, {a.name: a.default for a in arguments} | dict(given))
    given["namespace"] = checked_namespace(given["namespace"])
    plan = make(given)
    ours = {node_name(part, given): part for part in plan if _is_ours(part)}
    path, own = given["params_file"], [section for name in parameter_files(file, given) for section in read(share / name)]
    yours = read(path) if path else []
    refuse_lost(path, yours, ours, strangers=False)
    frame = values_of(yours, node_name(Process("arm_node"), given)).get("base_frame")
    ready, notes = [], []
    for part in plan:
        if _is_ours(part):
            node = node_name(part, given)
            refuse_unknown(path, yours, node, {*values_of(own, node), *part.derived, *part.parameters})
            # vla_node commands in the frame of arm_node, wherever that runs.
            derived = dict(part.derived) | ({"base_frame": frame} if part.executable == "vla_node" and frame else {})
            user = values_of(yours, node)
            notes += [
                f"{part.executable}: {name} is {user[name]} as {path} says, not {value} as the arguments of the launch "
                "file would have it"
                for name, value in derived.items()
                if user.get(name, value) != value
            ]
            part = replace(part, parameters={**values_of(own, node), **derived, **user, **part.parameters}, derived={})
            refuse_wrong(part.executable, part.parameters)
            for theirs in part.remaps.values():
                checked_topic(theirs)
        _refuse_missing(part, prefix_of)
        ready.append(part)
    _refuse_two_frames(ready)
    _refuse_policy(ready)
    _refuse_controllers(ready, share)
    return Ready(ready, notes)


def located(arguments: Iterable[Argument], given: Mapping[str, str]) -> dict[str, str]:
    """The arguments with absolute paths of the files that they name. ValueError where there is no such file."""
    found = dict(given)
    for argument in arguments:
        if argument.file and given[argument.name]:
            path = Path(given[argument.name]).expanduser().absolute()
            if not path.is_file():
                raise ValueError(
                    f"{argument.name}:={given[argument.name]}: there is no file {path}; without the argument the package's own is "
                    "taken"
                )
            found[argument.name] = str(path)
    return found


def node_name(process: Process, given: Mapping[str, str]) -> str:
    """Full name of a node of this package."""
    namespace = given["namespace"] if process.namespace is None else process.namespace
    return "/" + "/".join([*filter(None, namespace.split("/")), process.executable])


def _is_ours(part: Process | Include) -> TypeGuard[Process]:
    return isinstance(part, Process) and part.package == PACKAGE


def rewritten(text: str, renamed: Mapping[str, str]) -> str:
    """The text with each key of `renamed` replaced; where two fit, the first."""
    return re.sub("|".join(map(re.escape, renamed)), lambda match: renamed[match[0]], text) if renamed else text


def _refuse_missing(part: Process | Include, prefix_of: Callable[[str], str]) -> None:
    """ValueError where a package, an executable, a launch file or messages are not installed."""
    if isinstance(part, Include):
        prefix = _prefix(
            part.package,
            prefix_of,
            "the driver's package {} is not installed: {}, or give driver:=none where the driver runs elsewhere, driver:=sim for "
            "a simulated one",
        )
        file = Path(prefix, "share", part.package, "launch", part.file)
        if not file.is_file():
            raise ValueError(f"the package {part.package} in {prefix} has no launch file {part.file}: {advice(part.package)}")
        return
    if part.package != PACKAGE:
        prefix = _prefix(part.package, prefix_of, f"{part.asked} needs {{}}, which is not installed: {{}}")
        if not Path(prefix, "lib", part.package, part.executable).is_file():
            raise ValueError(f"{part.asked} needs {part.executable}, which the package {part.package} in {prefix} does not have")
    for package in part.needs:
        if package.endswith("_msgs"):
            _refuse_missing_messages(part.executable, package)
        else:
            _prefix(package, prefix_of, f"{part.asked} needs {{}}, which is not installed: {{}}")
    if part.executable == "arm_node":
        for parameter in ("arm.interface", "gripper.interface"):
            interface = part.parameters[parameter]
            if interface in MESSAGES:
                _refuse_missing_messages(f"arm_node with {parameter} {interface}", MESSAGES[interface])
        if name := part.parameters["controller.name"]:
            _refuse_missing_messages(f"arm_node with controller.name {name}", "controller_manager_msgs")


def _refuse_missing_messages(what: str, package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ValueError(f"{what} needs the ROS package {package}, which cannot be imported: {advice(package)}")


def _prefix(package: str, prefix_of: Callable[[str], str], sentence: str) -> str:
    try:
        return prefix_of(package)
    except LookupError as error:
        raise ValueError(sentence.format(package, advice(package))) from error


def _refuse_two_frames(plan: Iterable[Process | Include]) -> None:
    nodes: dict[str, list[str]] = {}  # by their frames
    for part in plan:
        if isinstance(part, Process) and _is_ours(part) and "base_frame" in part.parameters:
            nodes.setdefault(str(part.parameters["base_frame"]), []).append(part.executable)
    if len(nodes) > 1:
        told = ", but ".join(f"{frame} of {' and '.join(those)}" for frame, those in nodes.items())
        raise ValueError(f"base_frame is {told}: every command in another frame would be refused; give all the same")


def _refuse_policy(plan: Iterable[Process | Include]) -> None:
    """ValueError for a checkpoint or a bundle that is not there, or that is not for the arm. Where none is named, vla_node waits."""
    for part in plan:
        if isinstance(part, Process) and part.executable == "vla_node" and not part.parameters["policy.remote"]:
            if checkpoint := part.parameters["policy.checkpoint"]:
                refuse_unusable(str(checkpoint), bool(part.parameters["policy.real_arm"]))
            if folder := part.parameters["policy.adapted"]:
                bundle.read(str(folder))


def _refuse_controllers(plan: Iterable[Process | Include], share: Path) -> None:
    """ValueError where the file of the controllers lacks what is loaded from it."""
    spawned = [p.arguments[0] for p in plan if isinstance(p, Process) and p.executable == "spawner"]
    for part in plan:
        if isinstance(part, Include) and "controllers_yaml" in part.arguments:
            path = share / part.arguments["controllers_yaml"]
            known = values_of(read(path), "/controller_manager")
            # franka_bringup loads these two itself.
            for name in ("joint_state_broadcaster", "franka_robot_state_broadcaster", *spawned):
                if f"{name}.type" not in known:
                    raise ValueError(
                        f"{path} has no {name}.type under controller_manager, which is loaded from it: "
                        "config/franka_controllers.yaml of this package has all, as an example"
                    )
