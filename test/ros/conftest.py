# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests with real processes; see processes.py."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # so that tests can say `from processes import ...`

from processes import Domain, NodeProcess, Ros, node_command  # noqa: E402


@pytest.fixture
def domain():
    domain = Domain()
    yield domain
    domain.release()


@pytest.fixture
def start(domain, tmp_path):
    """start(module, parameters, *arguments) -> NodeProcess; killed at the end of the test if it still runs."""
    started = []

    def begin(module, parameters=None, *arguments, namespace="/vla"):
        command = node_command(module, parameters or {}, tmp_path, namespace, arguments)
        log = tmp_path / f"{module.rsplit('.', 1)[-1]}_{len(started)}.log"
        started.append(NodeProcess(command, domain, log))
        return started[-1]

    yield begin
    for process in started:
        process.kill()


@pytest.fixture
def ros(domain):
    helper = Ros(domain)
    yield helper
    helper.close()


@pytest.fixture(params=["sim_arm_node", "xs_sdk_sim"])
def interbotix(request, ros, domain, tmp_path):
    """interbotix(modes) -> InterbotixDriver, ours and Interbotix's own simulated one; killed at the end of the test."""
    from interbotix_driver import MODES, InterbotixDriver, standins

    standins.use()
    started = []

    def begin(modes=MODES):
        started.append(InterbotixDriver(request.param, ros, domain, tmp_path, modes))
        started[-1].wait()
        return started[-1]

    yield begin
    for driver in started:
        driver.process.kill()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A small model with random weights."""
    from vla_sd_ros import policy

    folder = tmp_path_factory.mktemp("checkpoint")
    policy.write_random(folder)
    return folder


@pytest.fixture(scope="session")
def shared_vla(checkpoint, tmp_path_factory):
    """vla_node as an active process, one for all tests that leave it as it was."""
    from vla import Vla

    vla = Vla(checkpoint, tmp_path_factory.mktemp("vla_node"))
    try:
        vla.wait_until_active()
        yield vla
    finally:
        vla.close()


@pytest.fixture
def vla(shared_vla):
    """The shared vla_node, with fresh inputs, no goal and nothing recorded."""
    shared_vla.clear()
    yield shared_vla
    if shared_vla.client.running:
        shared_vla.client.cancel()
        shared_vla.client.result(5.0)


@pytest.fixture
def arm_node(start, ros, request):
    """An active arm_node before an arm that stands still, and what it publishes, as lists of (time, message).

    Parametrized indirectly: its parameters.
    """
    from geometry_msgs.msg import PoseStamped
    from panda import Arm
    from processes import LATCHED
    from std_msgs.msg import Float64
    from vla_sd_msgs.msg import ArmStatus

    process = start("vla_sd_ros.nodes.arm_node", {"autostart": True} | getattr(request, "param", {}))
    process.targets = ros.listen(PoseStamped, "target_pose")
    process.openings = ros.listen(Float64, "gripper_command", LATCHED)
    process.statuses = ros.listen(ArmStatus, "arm_node/status", LATCHED)
    process.measured = ros.listen(PoseStamped, "measured_pose")
    process.arm = Arm(ros)
    ros.wait_until(lambda: process.measured, "a measured pose")
    return process
