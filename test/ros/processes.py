# SPDX-License-Identifier: Apache-2.0
"""Real node processes over DDS for tests: start one, listen to it, end it, each test in its own ROS domain.

def test_something(domain, start, ros):          # fixtures of conftest.py
    arm = start("vla_sd_ros.nodes.arm_node", {"autostart": True})
    arm.wait_for_line("is active")
    seen = ros.listen(PoseStamped, "target_pose")
    ros.publish(JointState, "joint_states", message)
    ros.wait_until(lambda: seen, "a target pose")
    assert arm.terminate() == 0
"""

import fcntl
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import rclpy
import yaml
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

from vla_sd_ros.demo import in_use

LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
BEST_EFFORT = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)


class Domain:
    """A ROS domain that nobody else on this machine is in; of tests, for as long as this object lives, by a file lock.

    By turns, for the nodes that a test has killed stay in the graph of their domain for 20 s.
    """

    _turns = itertools.cycle(random.sample(range(20, 100), 80))

    discovery = "LOCALHOST"  # how far nodes look for each other; SUBNET where they are in two network namespaces

    def __init__(self):
        for domain in itertools.islice(self._turns, 80):
            self.id = domain
            self._lock = open(f"/tmp/vla_sd_ros_test_domain_{domain}.lock", "w")
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not in_use(domain):
                    return
            except OSError:
                pass
            self._lock.close()
        raise RuntimeError("no ROS domain is free: other tests on this machine hold all of 20..99")

    def environment(self) -> dict[str, str]:
        return dict(
            os.environ,
            ROS_DOMAIN_ID=str(self.id),
            ROS_AUTOMATIC_DISCOVERY_RANGE=self.discovery,
            PYTHONUNBUFFERED="1",
            RCUTILS_LOGGING_BUFFERED_STREAM="0",
        )

    def release(self) -> None:
        self._lock.close()


class NodeProcess:
    """A process whose output goes to a file."""

    def __init__(self, command: list[str], domain: Domain, log: Path):
        self.path = log
        with open(log, "wb") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=domain.environment())

    @property
    def log(self) -> str:
        return self.path.read_text(errors="replace")

    def wait_for_line(self, text: str, timeout: float = 30.0) -> str:
        """The first line of the output that contains the text; fails when the process ends or time runs out."""
        deadline = time.monotonic() + timeout
        while True:
            ended = self.process.poll() is not None  # before reading, so that the last lines are seen
            for line in self.log.splitlines():
                if text in line:
                    return line
            if ended or time.monotonic() > deadline:
                raise AssertionError(
                    f"'{text}' was not printed before {'the end' if ended else 'time ran out'}; the output was:\n{self.log}"
                )
            time.sleep(0.05)

    def end(self, number: int = signal.SIGTERM, timeout: float = 10.0) -> tuple[int, float]:
        """Send a signal; returns the exit code and the time until the process was gone [s]."""
        start = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout), time.monotonic() - start

    def terminate(self) -> int:
        return self.end(signal.SIGTERM)[0]

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def discovery_server() -> str | None:
    """The program of Fast DDS, which the wheels put beside Python; None where it is not installed."""
    return shutil.which("fast-discovery-server", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


def in_a_process(function: Callable[[], Any], timeout: float = 120.0) -> Any:
    """What a module's function returns within a time [s], called in a process that ends thereafter.

    For nodes that a test only looks at: destroyed ones would stay in the graph of this process, and their services would
    seem to be those of the nodes that later tests start.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function).result(timeout)


def node_command(
    module: str, parameters: dict[str, Any], folder: Path, namespace: str = "/vla", arguments: tuple[str, ...] = ()
) -> list[str]:
    """The command line of a node, with its parameters in a YAML file in the folder."""
    file = folder / f"{module.rsplit('.', 1)[-1]}_{len(list(folder.iterdir()))}.yaml"
    file.write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}) if parameters else "")
    given = ["--params-file", str(file)] if parameters else []
    return [sys.executable, "-m", module, "--ros-args", "-r", f"__ns:={namespace}", *given, *arguments]


class Ros:
    """A node in this process that listens and speaks, spinning in its own thread."""

    def __init__(self, domain: Domain, namespace: str = "/vla"):
        # Discovery of this process must reach as far as that of the processes under test.
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = domain.discovery
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain.id, signal_handler_options=SignalHandlerOptions.NO)
        self.node = rclpy.create_node("test_helper", context=self.context, namespace=namespace)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self._publishers: dict[str, Any] = {}
        self._thread = threading.Thread(target=self.executor.spin, daemon=True)
        self._thread.start()

    def listen(self, kind: type, topic: str, qos: QoSProfile | int = 100) -> list[tuple[float, Any]]:
        """A list that grows by (time.monotonic(), message)."""
        seen: list[tuple[float, Any]] = []
        self.node.create_subscription(kind, topic, lambda m: seen.append((time.monotonic(), m)), qos)
        return seen

    def publish(self, kind: type, topic: str, message: Any, qos: QoSProfile | int = 10, wait: bool = True) -> None:
        """Publish; the first time on a topic, wait until somebody listens."""
        if topic not in self._publishers:
            self._publishers[topic] = self.node.create_publisher(kind, topic, qos)
            if wait:
                self.wait_until(self._publishers[topic].get_subscription_count, f"a subscriber of {topic}")
        self._publishers[topic].publish(message)

    def wait_until(self, condition: Callable[[], Any], what: str, timeout: float = 15.0) -> Any:
        """The condition's first true value; fails with what was waited for."""
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            assert time.monotonic() < deadline, f"waited {timeout} s in vain for {what}"
            time.sleep(0.005)
        return value

    def call(self, kind: type, service: str, request: Any, timeout: float = 15.0) -> Any:
        client = self.node.create_client(kind, service)
        assert client.wait_for_service(timeout), f"nobody offers {service}"
        future = client.call_async(request)
        self.wait_until(future.done, f"an answer of {service}", timeout)
        self.node.destroy_client(client)
        return future.result()

    def set_parameter(self, node: str, name: str, value: Any) -> Any:
        """Result (successful, reason) of setting one parameter."""
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        return self.call(SetParameters, f"{node}/set_parameters", request).results[0]

    def change_state(self, node: str, transition: str) -> bool:
        """A lifecycle transition by its label: configure, activate, deactivate, cleanup, shutdown."""
        request = ChangeState.Request()
        request.transition.label = transition
        return self.call(ChangeState, f"{node}/change_state", request).success

    def state(self, node: str) -> str:
        return self.call(GetState, f"{node}/get_state", GetState.Request()).current_state.label

    def close(self) -> None:
        self.executor.shutdown()
        self._thread.join(60.0)  # a node that is destroyed while it spins ends the process
        self.node.destroy_node()
        self.context.try_shutdown()
