# SPDX-License-Identifier: Apache-2.0
"""While vla_node loads its model it answers: goals are refused with a sentence, parameters work, SIGTERM ends it."""

import signal

import pytest
from vla import NODE, Vla

from vla_sd_ros.client import GoalRejected


def test_a_node_that_loads_its_model_answers(checkpoint, tmp_path):
    vla = Vla(checkpoint, tmp_path)
    try:
        with pytest.raises(GoalRejected, match="vla_node is still loading the model; send the goal when it is active"):
            vla.client.start("pick up the milk", timeout=30.0)
            vla.client.result(5.0)
        assert vla.ros.set_parameter(NODE, "goal.step_limit", 7).successful
        assert "policy.device" in vla.ros.set_parameter(NODE, "policy.device", "cuda").reason
        assert "is inactive" not in vla.process.log, "the model was loaded before the questions came"
        code, seconds = vla.process.end(signal.SIGTERM)
        assert code == 0 and seconds < 3.0
    finally:
        vla.close()
