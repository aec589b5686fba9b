# SPDX-License-Identifier: Apache-2.0
"""vla_node reports on /diagnostics at 1 Hz: model, latency, image age, rate; slow inference is a warning."""

from diagnostic_msgs.msg import DiagnosticStatus
from vla import NODE


def newest(vla, after: int = 0) -> DiagnosticStatus:
    vla.ros.wait_until(lambda: len(vla.diagnostics) > after, "diagnostics")
    return vla.diagnostics[-1][1].status[0]


def test_diagnostics_come_at_1_hz_and_tell_the_state_of_inference(vla):
    vla.start_moving(steps=3)
    vla.clear_records()
    status = newest(vla, after=2)
    times = [when for when, _ in vla.diagnostics]
    assert 0.8 < times[1] - times[0] < 1.3
    values = {v.key: v.value for v in status.values}
    assert status.name == "vla/vla_node"
    assert values["decoder"] == "autoregressive" and values["checkpoint"] == vla.parameters["policy.checkpoint"]
    assert values["goal"] == "pick up the milk"
    assert 0.0 < float(values["latency median [ms]"]) <= float(values["latency p95 [ms]"])
    assert float(values["image age [s]"]) < 0.5
    assert float(values["joint state age [s]"]) < 0.5
    assert float(values["rate [Hz]"]) > 0.0


def test_a_model_slower_than_the_control_period_is_a_warning(vla):
    vla.start_moving(steps=3)
    p95 = float({v.key: v.value for v in newest(vla).values}["latency p95 [ms]"])
    assert vla.ros.set_parameter(NODE, "control_period", max(0.02, p95 / 2e3)).successful
    try:
        vla.clear_records()
        status = newest(vla, after=1)
        p95 = float({v.key: v.value for v in status.values}["latency p95 [ms]"])
        slow = p95 > 1e3 * max(0.02, p95 / 2e3)
        assert status.level == (DiagnosticStatus.WARN if slow else DiagnosticStatus.OK)
        assert ("longer than control_period" in status.message) == slow
    finally:
        assert vla.ros.set_parameter(NODE, "control_period", 0.1).successful
