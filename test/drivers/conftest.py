# SPDX-License-Identifier: Apache-2.0
"""The simulators of the vendors' protocols are in test/ros/vendors.py."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "ros"))


@pytest.fixture
def gate():
    from vla_sd_ros.drivers.gate import Gate, Reach

    return Gate(Reach())
