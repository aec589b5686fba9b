# SPDX-License-Identifier: Apache-2.0
"""The arguments that every command has which reads recordings, and what is said of them before anything long runs."""

import argparse
from pathlib import Path

from vla_sd_ros import inputs

CONTROL_PERIOD = 0.2  # [s], as vla_node's control_period


def add_source(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Declares --source: where the recordings are."""
    parser.add_argument(
        "--source",
        type=inputs.path,
        nargs="+",
        default=[],
        required=required,
        help="folders with demonstrations of vla-sd collect, bags, LeRobot or RLDS datasets; searched below",
    )


def add_arguments(parser: argparse.ArgumentParser, failed: bool = False) -> None:
    """failed: of use to this command too, so that it takes all episodes."""
    if failed:
        parser.set_defaults(include_failed=True)
    else:
        parser.add_argument("--include-failed", action="store_true", help="also episodes that are not known to have succeeded")
    parser.add_argument("--instruction", default="", help="of all episodes, where the source does not say it")
    parser.add_argument("--image-topic", default="", help="bags: topic of the policy's camera, where there are several")
    parser.add_argument("--camera", default="", help="datasets: key of the policy's camera, where there are several")
    parser.add_argument("--action", default="action", help="datasets: key of the actions, end-effector deltas and gripper")
    parser.add_argument("--stride", type=inputs.count, default=1, help="datasets: frames in one step of the policy (20 Hz: 4)")
    parser.add_argument(
        "--rate", type=inputs.number(0.0, 1e4), default=0.0, help="RLDS: frames a second, which it does not tell [Hz]"
    )
    parser.add_argument(
        "--control-period",
        type=inputs.number(1e-4, 3600.0),
        default=CONTROL_PERIOD,
        help="of the policy [s]; recordings of another rate are refused",
    )
    parser.add_argument(
        "--action-scale",
        type=inputs.number(1e-9, 1e9),
        nargs=2,
        default=(1.0, 1.0),
        metavar=("METRES", "RADIANS"),
        help="datasets: in one unit of translation and rotation (robosuite: 0.05 0.5)",
    )
    parser.add_argument(
        "--gripper",
        type=inputs.number(-1e9, 1e9),
        nargs=2,
        default=(0.0, 1.0),
        metavar=("CLOSED", "OPEN"),
        help="datasets: values of the gripper (robosuite: 1 -1)",
    )


def take_stock(arguments: argparse.Namespace, paths: list[Path]):
    """The Recordings at these paths and their Inventory.

    Raises RecordingError where they cannot be what a policy with these arguments did or learnt from.
    """
    from vla_sd_ros.recordings import Inventory, Recordings

    recordings = Recordings(paths, options(arguments))
    inventory = Inventory.of(recordings)
    inventory.check_rate(arguments.control_period)
    return recordings, inventory


def tell_skipped(recordings) -> None:
    """Print what of these Recordings was skipped, one line for each reason."""
    for sentence in recordings.told():
        print(sentence, flush=True)


def options(arguments: argparse.Namespace):
    """The part of the arguments that tells how to read the recordings."""
    from vla_sd_ros.recordings import Options, RecordingError

    closed, opened = arguments.gripper
    if closed == opened:
        raise RecordingError("--gripper needs two different values, closed and open")
    return Options(
        include_failed=arguments.include_failed,
        instruction=arguments.instruction,
        image_topic=arguments.image_topic,
        camera=arguments.camera,
        action=arguments.action,
        stride=arguments.stride,
        rate=arguments.rate,
        action_scale=tuple(arguments.action_scale),
        gripper=(closed, opened),
    )
