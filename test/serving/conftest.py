# SPDX-License-Identifier: Apache-2.0
"""A policy server as a process of its own, and the decoder that it must agree with; see served.py."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # so that tests can say `from served import ...`

from served import SETTINGS, Local, ServerProcess  # noqa: E402


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A small model with random weights."""
    from vla_sd_ros import policy

    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    policy.write_random(folder, seed=4)
    return folder


@pytest.fixture(scope="session")
def server(checkpoint, tmp_path_factory):
    """`vla-sd serve` with a decoder whose answer depends on the steps before."""
    folder = tmp_path_factory.mktemp("server")
    process = ServerProcess.relaxed(checkpoint, folder)
    try:
        process.wait_until_ready()
        yield process
    finally:
        process.kill()


@pytest.fixture(scope="session")
def local(checkpoint):
    """The same decoder in this process."""
    return Local(checkpoint, "prefill_relaxed", SETTINGS)
