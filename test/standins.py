# SPDX-License-Identifier: Apache-2.0
"""Builds the stand-in interface packages of test/interfaces/ into a prefix of their own, once for each content.

They hold only the types that vla_sd_ros uses of packages that have no wheels, from their documented fields. Where the
real packages are installed, those are used. Nothing here is installed with the product.

Where INTERBOTIX_SOURCES names a folder with clones of Interbotix's repositories, interbotix_xs_msgs is built from the
definitions in there instead: their own simulated driver needs all of them.

    python test/standins.py      # builds, and prints the shell commands that put them on the paths
"""

import ctypes
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent / "interfaces"
NAMES = ("control_msgs", "controller_manager_msgs", "franka_msgs", "interbotix_xs_msgs", "moveit_msgs")
# Debug code compiles in half the time.
PYPROJECT = """[build-system]
build-backend = "scikit_build_core.build"
requires = {requires}
[project]
name = "standins"
version = "0.0.0"
[tool.scikit-build]
experimental = true
wheel.install-dir = "/data"
cmake.build-type = "Debug"
cmake.define.BUILD_TESTING = "OFF"
"""


def requirements() -> list[str]:
    """What builds msg/ builds these, and the packages whose types they use."""
    route = "msg/kilted" if version("ros-rclpy").startswith("9.") else "msg"
    build = tomllib.loads((HERE.parents[1] / route / "pyproject.toml").read_text())["build-system"]["requires"]
    versions = {line.partition("==")[0]: line.partition("==")[2] for line in build}
    common = versions["ros-std-msgs"]
    return [
        *build,
        f"ros-sensor-msgs=={common}",
        f"ros-trajectory-msgs=={common}",
        f"ros-lifecycle-msgs=={versions['ros-action-msgs']}",
    ]


def interbotix(package: str) -> Path | None:
    """A package of Interbotix's own, below the folder that INTERBOTIX_SOURCES names."""
    folder = os.environ.get("INTERBOTIX_SOURCES")
    return (
        next((path.parent for path in Path(folder).rglob("package.xml") if path.parent.name == package), None) if folder else None
    )


def lay(folder: Path) -> None:
    """Lay the sources into a folder that is not there yet."""
    shutil.copytree(HERE, folder)
    if theirs := interbotix("interbotix_xs_msgs"):
        for kind in ("msg", "srv"):
            shutil.rmtree(folder / theirs.name / kind)
            shutil.copytree(theirs / kind, folder / theirs.name / kind)


def digest(source: Path) -> str:
    """Changes with every file that the build reads, and with the interpreter that it is for."""
    state = hashlib.sha256(f"{sys.version} {requirements()} {PYPROJECT}".encode())
    for path in sorted(source.rglob("*")):
        if path.suffix in {".msg", ".srv", ".action", ".txt", ".xml"}:
            state.update(path.relative_to(source).as_posix().encode() + path.read_bytes())
    return state.hexdigest()[:16]


def build() -> Path:
    """The prefix with the packages; built where it is not there yet, which takes about a minute."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "vla_sd_ros", "standins")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        source = Path(folder, "source")
        lay(source)
        prefix = cache / digest(source)
        if prefix.is_dir():
            return prefix
        quoted = ", ".join(f'"{line}"' for line in requirements())
        (source / "pyproject.toml").write_text(PYPROJECT.format(requires=f"[{quoted}]"))
        command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", folder, str(source)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"the stand-in interface packages could not be built:\n{done.stdout}\n{done.stderr}")
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            wheel.extractall(Path(folder, "wheel"))
        try:
            next(Path(folder, "wheel").glob("*.data/data")).rename(prefix)  # all at once: others may build too
        except OSError:
            if not prefix.is_dir():
                raise
    return prefix


def environment(prefix: Path) -> dict[str, str]:
    """The variables that processes need to find the packages below the prefix, added to those that are set."""
    packages = prefix / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    added = {"PYTHONPATH": packages, "LD_LIBRARY_PATH": prefix / "lib", "AMENT_PREFIX_PATH": prefix}
    return {name: os.pathsep.join(filter(None, [str(path), os.environ.get(name, "")])) for name, path in added.items()}


def use() -> None:
    """Put them on the paths of this process and of those that it starts; nothing where the real ones are installed."""
    missing = [name for name in NAMES if importlib.util.find_spec(name) is None]
    if missing:
        new = environment(build())
        os.environ.update(new)
        sys.path.insert(0, new["PYTHONPATH"].split(os.pathsep)[0])
        # A process reads LD_LIBRARY_PATH when it starts: this one finds by name what is loaded already.
        for library in sorted(Path(new["LD_LIBRARY_PATH"].split(os.pathsep)[0]).glob("lib*_c.so")):
            ctypes.CDLL(str(library))


if __name__ == "__main__":
    for name, value in environment(build()).items():
        print(f"export {name}={value}")
