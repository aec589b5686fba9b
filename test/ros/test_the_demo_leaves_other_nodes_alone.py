# SPDX-License-Identifier: Apache-2.0
"""The demo has a ROS domain of its own whatever the shell says, and refuses one with nodes of its names in it."""

import os

import pytest
from demo import DemoProcess

from vla_sd_ros.demo import prepare_environment

MODULE = "vla_sd_ros.nodes.arm_node"


@pytest.fixture
def shell(monkeypatch):
    """A shell of somebody who drives a real arm; what the demo sets is taken back."""
    for name in (
        "ROS_DOMAIN_ID",
        "ROS_AUTOMATIC_DISCOVERY_RANGE",
        "ROS_STATIC_PEERS",
        "ROS_DISCOVERY_SERVER",
        "MUJOCO_GL",
        "OMP_NUM_THREADS",
        "AMENT_PREFIX_PATH",
    ):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setenv("ROS_DOMAIN_ID", "42")
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    monkeypatch.setenv("ROS_STATIC_PEERS", "192.168.1.7")
    monkeypatch.setattr("vla_sd_ros.demo.free_domain", lambda: 7)


def test_the_shells_domain_and_peers_are_not_used(shell):
    children = prepare_environment(None)
    assert (children["ROS_DOMAIN_ID"], children["ROS_AUTOMATIC_DISCOVERY_RANGE"]) == ("7", "LOCALHOST")
    assert "ROS_STATIC_PEERS" not in children


def test_a_domain_that_is_named_is_used(shell):
    children = prepare_environment(5)
    assert (children["ROS_DOMAIN_ID"], children["ROS_AUTOMATIC_DISCOVERY_RANGE"]) == ("5", "SUBNET")


def test_an_arm_node_of_somebody_else_is_neither_configured_nor_joined(domain, start, ros, tmp_path):
    arm = start(MODULE)
    assert ros.state("arm_node") == "unconfigured"
    demo = DemoProcess(domain, tmp_path)
    code, duration = demo.end()
    assert code == 2 and duration < 20.0 and "Traceback" not in demo.output
    assert f"vla-sd demo: in ROS domain {domain.id} there is /vla/arm_node that the demo did not start; leave" in demo.output
    assert ros.state("arm_node") == "unconfigured" and demo.nodes() == [arm.process.pid]


def test_the_domain_in_the_environment_is_left_alone(domain, start, ros, tmp_path, checkpoint):
    start(MODULE)
    assert ros.state("arm_node") == "unconfigured"
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_text('{"model_type": "vla_sd_embedded"}')
    demo = DemoProcess(domain, tmp_path, "--checkpoint", str(tmp_path / "bare"), named=False)
    code, _ = demo.end()
    assert code == 2 and "vla_node did not configure: " in demo.output  # so it came as far as its own vla_node
    assert f"in ROS domain {domain.id} " not in demo.output and ros.state("arm_node") == "unconfigured"
