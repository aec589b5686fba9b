# SPDX-License-Identifier: Apache-2.0
"""`vla-sd record`: record each goal of a running vla_node; s and f judge it. The same as record:=true of the launch files."""

import argparse
import os
import sys
from pathlib import Path

from vla_sd_ros import inputs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vla-sd record`."""
    parser.add_argument("--namespace", type=inputs.namespace, default="vla", help="namespace of vla_node")
    parser.add_argument("--output-dir", type=inputs.path, default=Path("runs"), help="folder for the runs, one a goal")
    parser.add_argument("--image-topic", type=inputs.topic, help="of the camera, where it is not `image` of the namespace")
    parser.add_argument(
        "--joint-states-topic", type=inputs.topic, help="of the driver, where it is not `joint_states` of the namespace"
    )
    parser.add_argument(
        "--patience", type=inputs.seconds, default=60.0, help="for a verdict, after a goal [s] (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Becomes the node's process, so that its keys and signals are the command's."""
    from vla_sd_ros.demo import node_command
    from vla_sd_ros.environment import check_environment

    check_environment()
    values = {"folder": str(arguments.output_dir.absolute()), "patience": arguments.patience}
    _refuse_wrong(values)
    inputs.writable_folder(arguments.output_dir, "--output-dir")
    topics = {"image": arguments.image_topic, "joint_states": arguments.joint_states_topic}
    remaps = [part for name, topic in topics.items() if topic for part in ("-r", f"{name}:={topic}")]
    sys.stdout.flush()
    os.execv(sys.executable, [*node_command("goal_recorder", arguments.namespace, values), *remaps])


def _refuse_wrong(values: dict) -> None:
    from vla_sd_ros.nodes.tables import refuse_wrong

    try:
        refuse_wrong("goal_recorder", values)
    except ValueError as error:
        raise inputs.BadInput(str(error)) from error
