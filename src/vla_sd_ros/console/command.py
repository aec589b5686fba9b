# SPDX-License-Identifier: Apache-2.0
"""`vla-sd console`: the operator's page of a running vla_node, for browsers on desktop and phone."""

import argparse
import asyncio
import logging
import sys
from pathlib import Path

from vla_sd_ros import inputs
from vla_sd_ros.inputs import BadInput


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vla-sd console`."""
    parser.add_argument("--namespace", type=inputs.namespace, default="vla", help="namespace of vla_node")
    parser.add_argument("--runs", type=inputs.path, default=Path("runs"), help="folder of the recordings that it shows")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; others than loopback need a key")
    parser.add_argument("--port", type=inputs.PORT, default=8080, help="port to listen on; 0: any free one")
    parser.add_argument("--api-key-file", help="file with the key that operators must give")


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0: stopped by Ctrl-C or SIGTERM. 2: it could not start."""
    from vla_sd_ros.environment import start_ros

    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        from vla_sd_ros.console import web
        from vla_sd_ros.serving import door
        from vla_sd_ros.serving.key import read_key
    except ModuleNotFoundError as error:
        raise BadInput(f"{error.name} is missing: pip install 'vla_sd_ros[serve]'") from error
    try:
        key = read_key(arguments.api_key_file) if arguments.api_key_file else ""
        bound = door.listen(arguments.host, arguments.port, key)
    except ValueError as error:
        raise BadInput(str(error)) from error
    start_ros()
    import rclpy

    from vla_sd_ros.console.robot import Robot

    robot = Robot(arguments.namespace)
    try:
        asyncio.run(web.serve(robot, arguments.runs, bound, key, _ready))
    finally:
        robot.close()
        rclpy.try_shutdown()
    return 0


def _ready(address: str) -> None:
    print(f"ready: http://{address}", flush=True)
