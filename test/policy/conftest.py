# SPDX-License-Identifier: Apache-2.0
"""A small OpenVLA checkpoint for the tests of its loading; see openvla_checkpoint.py."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # so that tests can say `from openvla_checkpoint import ...`

import openvla_checkpoint  # noqa: E402


@pytest.fixture(scope="session")
def openvla_tensors() -> dict:
    """Name to tensor, single precision."""
    return openvla_checkpoint.random_tensors(openvla_checkpoint.shapes())


@pytest.fixture(scope="session")
def openvla_directory(openvla_tensors, tmp_path_factory) -> Path:
    """The checkpoint in three shards; not to be changed."""
    directory = tmp_path_factory.mktemp("openvla") / "small"
    openvla_checkpoint.write(directory, openvla_tensors)
    return directory
