# SPDX-License-Identifier: Apache-2.0
"""The environment variables that ROS 2 reads, checked before rclpy does, which ends in a traceback, or ends the process."""

import os
import tempfile
from pathlib import Path

from vla_sd_ros.ament import use_wheel_prefix
from vla_sd_ros.inputs import BadInput

LAST_DOMAIN = 232  # the ports of higher ones do not exist (RTPS 9.6.1)


def start_ros() -> None:
    """rclpy.init(), without its signal handlers. Raises BadInput, with one sentence."""
    check_environment()
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    try:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:  # RCLError, of which rclpy exports no class
        raise BadInput(f"ROS 2 does not start: {error}") from error


def check_environment() -> None:
    """Raises BadInput for a variable with which ROS 2 does not start."""
    use_wheel_prefix()
    _check_domain(os.environ.get("ROS_DOMAIN_ID", ""))
    _check_middleware(os.environ.get("RMW_IMPLEMENTATION", ""))
    _check_logs()


def _check_domain(domain: str) -> None:
    if domain and not (domain.isascii() and domain.isdigit() and int(domain) <= LAST_DOMAIN):
        raise BadInput(
            f"ROS_DOMAIN_ID is {domain!r}, but must be a whole number from 0 to {LAST_DOMAIN}; up to 101 they work on every Linux"
        )


def _check_middleware(name: str) -> None:
    from ament_index_python import get_resources

    there = sorted(get_resources("rmw_typesupport").keys() - {"rmw_implementation"})
    if name and there and name not in there:
        raise BadInput(
            f"RMW_IMPLEMENTATION is {name!r}, which this installation does not have: unset it, or set it to {' or '.join(there)}"
        )


def _check_logs() -> None:
    """The folder of the logs, as rcl_logging chooses it."""
    home, given = os.environ.get("HOME", ""), os.environ.get("ROS_LOG_DIR") or os.environ.get("ROS_HOME", "~/.ros") + "/log"
    if given.startswith("~") and not home:
        raise BadInput("HOME is not set, under which ROS 2 writes its logs: set it, or ROS_LOG_DIR to a folder that can be written")
    folder = Path(home + given[1:] if given.startswith("~") else given)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadInput(
            f"ROS 2 cannot write its logs to {folder} ({error.strerror}): set ROS_LOG_DIR to a folder that can be written"
        ) from error
