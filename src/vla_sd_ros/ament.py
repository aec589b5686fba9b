# SPDX-License-Identifier: Apache-2.0
"""The one place that knows about the ament index: where this package's launch/ and config/ files are."""

import os
import sys
from pathlib import Path

PACKAGE = "vla_sd_ros"


def use_wheel_prefix() -> None:
    """Puts `sys.prefix` on AMENT_PREFIX_PATH, for this process and its children, when pip installed the package there.

    A ROS installation sets the variable when it is sourced; ROS 2 from wheels sets nothing.
    """
    prefixes = [p for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    marker = Path(sys.prefix, "share", "ament_index", "resource_index", "packages", PACKAGE)
    if marker.exists() and sys.prefix not in prefixes:
        os.environ["AMENT_PREFIX_PATH"] = os.pathsep.join([*prefixes, sys.prefix])


def share(*parts: str) -> Path:
    """Path of an installed file, e.g. `share("config", "sim.yaml")`; FileNotFoundError where there is none."""
    from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

    use_wheel_prefix()
    try:
        path = Path(get_package_share_directory(PACKAGE), *parts)
    except PackageNotFoundError as error:
        raise FileNotFoundError(
            f"{PACKAGE} is not in the ament index: install it with `pip install ./msg '.[sim]'`, "
            "or build it with colcon and source install/setup.bash"
        ) from error
    if not path.exists():
        raise FileNotFoundError(f"{path} is not installed; reinstall {PACKAGE}, or name an existing file")
    return path
