# SPDX-License-Identifier: Apache-2.0
"""Makes sure that the operating system has what pip cannot bring, before anything is downloaded.

Needs: a C++ compiler and Python's headers (the messages are compiled), venv, and libraries for rendering without a
display. Says the exact apt command for what is missing, and runs it where that is allowed (root, or sudo without a
password). Exits 1 with a sentence otherwise. Standard library only: it runs before the virtual environment exists.
"""

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path


def library(*names: str) -> bool:
    """Whether the dynamic linker finds one of the libraries."""
    for name in names:
        try:
            ctypes.CDLL(name)
            return True
        except OSError:
            pass
    return False


def missing() -> list[str]:
    """The Debian and Ubuntu packages that this machine lacks."""
    present = {
        "g++": shutil.which("c++"),
        "python3-dev": Path(sysconfig.get_path("include"), "Python.h").exists(),
        "python3-venv": importlib.util.find_spec("ensurepip"),
        "libglib2.0-0": library("libgthread-2.0.so.0"),  # OpenCV
        "libgl1": library("libGL.so.1"),  # OpenCV
        "libegl1": library("libEGL.so.1"),  # MuJoCo without a display
        "libegl-mesa0": library("libEGL_mesa.so.0", "libEGL_nvidia.so.0"),  # its driver: Mesa's, or the GPU's own
        "libgl1-mesa-dri": library("libGLX_mesa.so.0", "libEGL_nvidia.so.0"),
    }
    return [package for package, found in present.items() if not found]


def become_root() -> list[str] | None:
    """What to put before a command so that it runs as root; None where that needs a password."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo and subprocess.run([sudo, "-n", "true"], capture_output=True).returncode == 0:
        return [sudo, "-n"]
    return None


def main() -> str | None:
    """None when all is there; else the sentence to stop with."""
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        return (
            f"The quick start needs Python 3.11, 3.12 or 3.13 (PyPI's ROS 2 wheels and the pinned versions); this is "
            f"{sys.version.split()[0]}. Name another one: make demo PYTHON=python3.12"
        )
    packages = missing()
    if not packages:
        return None
    install = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    print("System packages are missing. The command that installs them:\n\n    sudo", *install, "\n", flush=True)
    root = become_root()
    if root is None or not shutil.which("apt-get"):
        return "Please run it (on a system without apt: install the same things its way), then start again."
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run([*root, "apt-get", "update", "-q"], env=environment)
    if subprocess.run([*root, *install], env=environment).returncode or missing():
        return f"That did not bring everything: {' '.join(missing())} still missing."
    return None


if __name__ == "__main__":
    sys.exit(main())
