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
