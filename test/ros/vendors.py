# SPDX-License-Identifier: Apache-2.0
"""Simulators that speak the vendors' wire protocols, each a process of its own on a loopback address.

    with Fr3() as robot:        # franky-sim, FCI 10; robot.say("reflex") does what its docstring says
    with WidowXAI() as robot:   # trossen-arm-sim

A machine that lacks one skips the tests that need it.
"""

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

HERE = Path(__file__).parent
BOOT = 60.0  # s: a deadline
REST, STILL = 0.005, 0.3  # rad, s: a joint that moves less in this time rests; an idle one of franky-sim trembles
TOLD, RESTS, GONE = 1.0, 1.0, 3.0  # s: the bounds of docs/arms.md, "Without ros2_control"


class Vendor:
    """`script` with its arguments, until it prints `ready`."""

    address = "127.0.0.1"

    def __init__(self, script: list[str], ready: str, python: str = sys.executable, environment: dict | None = None):
        self._process = subprocess.Popen(
            [python, *script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
            env=dict(os.environ, PYTHONUNBUFFERED="1", **(environment or {})),
        )
        said = []
        deadline = time.monotonic() + BOOT
        for line in self._process.stdout:
            said.append(line)
            if ready in line:
                return
            assert time.monotonic() < deadline
        raise AssertionError("".join(said))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self.kill()

    def say(self, word: str) -> None:
        self._process.stdin.write(word + "\n")

    def where(self) -> np.ndarray:
        """Positions of the joints, as the simulator knows them."""
        self.say("where")
        ready, _, _ = select.select([self._process.stdout], [], [], 5.0)
        assert ready, "the simulator does not answer"
        for line in self._process.stdout:
            if line.startswith("{"):
                return np.array(json.loads(line)["q"])
        raise AssertionError("the simulator has ended")

    def rests_after(self) -> float:
        """For how long from now on the arm still moves [s]."""
        begin = since = time.monotonic()
        here = self.where()
        while (now := time.monotonic()) - since < STILL:
            assert now - begin < BOOT, "the arm does not come to rest"
            if np.abs((there := self.where()) - here).max() > REST:
                here, since = there, now
            time.sleep(0.01)
        return since - begin

    def motion(self, seconds: float = STILL) -> float:
        """How far a joint moves in this time [rad]."""
        before = self.where()
        time.sleep(seconds)
        return float(np.abs(self.where() - before).max())

    def pause(self, seconds: float) -> None:
        """The whole robot is gone for a while."""
        self._process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Fr3(Vendor):
    """franky-sim on an address of its own. Words: reflex, pressed (the stop button), released."""

    def __init__(self):
        needed("franky-sim", "franky-control")
        self.address = f"127.1.{os.getpid() % 250 + 1}.{int(time.monotonic()) % 250 + 1}"
        super().__init__([str(HERE / "fr3.py"), self.address], "Press")


class WidowXAI(Vendor):
    """trossen-arm-sim. Its ports are fixed, so tests that run at the same time take turns. Word: overheated."""

    def __init__(self, firmware: str = "installed"):
        needed("trossen-arm-sim", "trossen-arm")
        self._turn = open("/tmp/vla_sd_ros_test_widowx_ai.lock", "w")
        fcntl.flock(self._turn, fcntl.LOCK_EX)
        try:
            super().__init__([str(HERE / "widowx_ai.py"), firmware], "ready")
        except BaseException:
            self._turn.close()
            raise

    def kill(self) -> None:
        super().kill()
        self._turn.close()


def needed(*packages: str) -> None:
    for package in packages:
        try:
            version(package)
        except PackageNotFoundError:
            pytest.skip(f"{package} is not installed: it has wheels for Linux on x86-64 and Python 3.10 to 3.13 only")


class StrictFr3(Vendor):
    """franka-sim: it stops a motion that leaves the FCI's limits, or whose client misses 20 packets, as the robot does.

    It needs other versions of numpy and mujoco than this project: python -m venv strict; strict/bin/pip install
    franka-sim==1.1.7; FRANKA_SIM_PYTHON=strict/bin/python make test ARGS=...
    """

    def __init__(self, folder: Path):
        needed("franky-sim", "franky-control")
        if not (python := os.environ.get("FRANKA_SIM_PYTHON")):
            pytest.skip("FRANKA_SIM_PYTHON names no environment with franka-sim: see test/ros/vendors.py")
        model = folder / "fr3.xml"
        model.write_text(_without_shapes())
        super().__init__(
            ["-m", "franka_sim.run_server", "--enforce-comm-constraints", "--enforce-motion-limits"],
            "listening",
            python,
            {"FR3_MJCF": str(model)},
        )
        time.sleep(2.0)  # its physics begins after that line


def _without_shapes() -> str:
    """franky-sim's model of the arm with masses and joints alone: its meshes lie elsewhere, and nothing is touched."""
    from franky_sim import mujoco_simulator

    tree = ElementTree.parse(mujoco_simulator._XML_PATH)
    for parent in list(tree.getroot().iter()):
        for child in list(parent):
            if child.tag == "geom" and parent.tag == "body" or child.tag == "mesh":
                parent.remove(child)
    return ElementTree.tostring(tree.getroot(), encoding="unicode")
