# SPDX-License-Identifier: Apache-2.0
"""Parameters are described with ranges; live ones act at the next step; wrong values are refused with a sentence."""

import time

import pytest
from rcl_interfaces.srv import DescribeParameters
from vla import NODE


def describe(vla, name: str):
    request = DescribeParameters.Request(names=[name])
    return vla.ros.call(DescribeParameters, f"{NODE}/describe_parameters", request).descriptors[0]


@pytest.mark.parametrize(
    "name, low, high",
    [
        ("control_period", 0.02, 5.0),
        ("goal.time_limit", 0.1, 3600.0),
        ("goal.step_limit", 1, 100_000),
        ("image.timeout", 0.05, 60.0),
        ("image.grace", 0.0, 600.0),
        ("joint_states.timeout", 0.02, 60.0),
        ("joint_states.grace", 0.0, 600.0),
        ("arm_status.grace", 0.1, 600.0),
    ],
)
def test_numbers_have_a_description_and_a_range(vla, name, low, high):
    descriptor = describe(vla, name)
    span = (list(descriptor.floating_point_range) + list(descriptor.integer_range))[0]
    assert (span.from_value, span.to_value) == (low, high)
    assert descriptor.description.endswith(".") and not descriptor.read_only
    refused = vla.ros.set_parameter(NODE, name, type(span.to_value)(high + 1))
    assert not refused.successful and name in refused.reason


@pytest.mark.parametrize("name", ["base_frame", "image.compressed"])
def test_fixed_parameters_say_that_they_are_read_only(vla, name):
    assert describe(vla, name).read_only


def test_the_decoder_cannot_become_an_unknown_one_during_a_goal(vla):
    vla.start_moving()
    refused = vla.ros.set_parameter(NODE, "decoder.name", "oracle")
    assert not refused.successful
    assert "oracle" in refused.reason and "autoregressive" in refused.reason
    before = len(vla.motions())
    vla.ros.wait_until(lambda: len(vla.motions()) > before, "motion with the old decoder")


def test_parameters_are_answered_while_the_arm_moves(vla):
    vla.start_moving()
    start = time.monotonic()
    assert vla.ros.set_parameter(NODE, "decoder.name", "autoregressive").successful
    assert time.monotonic() - start < 1.0


def test_a_limit_that_is_changed_live_counts_for_the_running_goal(vla):
    vla.start_moving(steps=3)
    try:
        assert vla.ros.set_parameter(NODE, "goal.step_limit", 1).successful
        assert vla.client.result(2.0).termination_reason == "step_limit"
    finally:
        assert vla.ros.set_parameter(NODE, "goal.step_limit", 1000).successful


def test_the_model_can_change_only_while_the_node_is_unconfigured(vla):
    refused = vla.ros.set_parameter(NODE, "policy.device", "cuda")
    assert not refused.successful
    assert "'policy.device' can change only while vla_node is unconfigured" in refused.reason
    assert "Changeable only while the node is unconfigured." in describe(vla, "policy.device").description


def test_the_decoder_and_its_settings_change_during_a_goal(vla):
    vla.start_moving()
    try:
        assert vla.ros.set_parameter(NODE, "decoder.name", "prefill").successful
        assert vla.ros.set_parameter(NODE, "decoder.prefill_sources", ["last_action", "head"]).successful
        vla.ros.wait_until(lambda: vla.steps and vla.steps[-1][1].decoder == "prefill", "a step of the new decoder")
        assert vla.ros.set_parameter(NODE, "decoder.name", "prefill_relaxed").successful
        assert vla.ros.set_parameter(NODE, "decoder.relaxed_radius", 200.0).successful
        vla.ros.wait_until(lambda: vla.steps[-1][1].threshold == 200.0, "a step with the new radius")
        newest = vla.steps[-1][1]
        assert newest.decoder == "prefill_relaxed" and 1 <= newest.forward_passes <= 7
    finally:
        assert vla.ros.set_parameter(NODE, "decoder.relaxed_radius", 9.0).successful
        assert vla.ros.set_parameter(NODE, "decoder.name", "autoregressive").successful


@pytest.mark.parametrize(
    "name, value, sentence",
    [
        ("decoder.name", "kerv", "needs a drafter: set policy.drafter"),
        ("decoder.name", "retrieval_only", "needs a database: set policy.database"),
        ("decoder.kalman_decay", [0.5, 0.5], "2 entries, but needs 6"),
        ("decoder.prefill_sources", ["crystal_ball"], "must be one of: last_action"),
        ("decoder.relaxed_radius", 300.0, "out of range"),
    ],
)
def test_a_decoder_that_cannot_work_is_refused_with_a_sentence(vla, name, value, sentence):
    refused = vla.ros.set_parameter(NODE, name, value)
    assert not refused.successful and sentence in refused.reason
