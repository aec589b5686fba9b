# SPDX-License-Identifier: Apache-2.0
"""A Ray cluster of two nodes on this machine, each with one core."""

import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
SETTINGS = {
    "RAY_worker_niceness": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_local_fs_capacity_threshold": "0.999",
}


@contextmanager
def two_nodes():
    """The cluster, and its second node, which can be killed."""
    os.environ.update(SETTINGS)
    from ray import cloudpickle
    from ray.cluster_utils import Cluster

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # nodes cannot import this file
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # sockets allow no long path
    (Path(tempfile.gettempdir()) / "ray").mkdir(exist_ok=True)  # where ray writes the cluster's address, whatever temp_dir is
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "temp_dir": folder})
    try:
        yield cluster, cluster.add_node(**NODE)
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def when(condition: Callable[[], object], act: Callable[[], object]) -> threading.Thread:
    """Acts as soon as the condition holds."""

    def watch() -> None:
        while not condition():
            time.sleep(0.05)
        act()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def dies(unit: tuple[Path, int]) -> str:
    """A unit of a file that counts its tries, and of how many of these end their process; the file's name."""
    tries, deadly = unit
    with tries.open("ab") as file:
        file.write(b".")
    if tries.stat().st_size <= deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    return tries.name


def files(folder: Path) -> dict[str, bytes]:
    """What is below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
