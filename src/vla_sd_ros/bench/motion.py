# SPDX-License-Identifier: Apache-2.0
"""What arm_node would make of a decoder's actions: how many commands its limits shorten, and how smooth its target moves.

After an episode its actions go through arm_node's own controller, one each control period, as in its dry run: the arm is where it
is sent, so that what is counted is the limits of a step and the workspace, and not what an arm is late by or presses on. The joints
are not looked at. The limits are those of config/sim.yaml.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vla_sd_ros.control.command import Command
from vla_sd_ros.control.config import Config
from vla_sd_ros.control.controller import ArmController
from vla_sd_ros.kinematics.pose import Pose
from vla_sd_ros.sim.episode import CONTROL_PERIOD, INTERPOLATION_PERIOD, WORKSPACE

LIMITS = Config(workspace_low=WORKSPACE[0], workspace_high=WORKSPACE[1], dry_run=True)
TICKS = round(CONTROL_PERIOD / INTERPOLATION_PERIOD)  # of the target between two commands
GOAL = b"episode"


@dataclass(frozen=True)
class Motion:
    """Of an episode: its commands, how many of them were shortened or refused, and the length of the target's jerk at each
    tick [m/s^3]."""

    commands: int
    shortened: int
    jerk: list[float]


def motion_of(start: Pose, actions: Sequence[np.ndarray], limits: Config = LIMITS) -> Motion:
    """The motion from a pose by actions (7,) [m, rad, opening], in the semantics of bridge_orig."""
    controller, path = ArmController(limits, 0.0), [start.position]
    measured = start
    for step, action in enumerate(actions):
        controller.measure(measured, now := step * CONTROL_PERIOD)
        parts = action[:3], action[3:6], float(action[6])
        controller.command(Command(GOAL, step, limits.base_frame, False, *parts, CONTROL_PERIOD), now)
        for tick in range(1, TICKS + 1):
            measured = controller.tick(now + tick * INTERPOLATION_PERIOD) or measured
            controller.measure(measured, now + tick * INTERPOLATION_PERIOD)
            path.append(measured.position)
    jerk = np.linalg.norm(np.diff(path, 3, axis=0), axis=1) / INTERPOLATION_PERIOD**3
    told = controller.status(len(actions) * CONTROL_PERIOD)
    return Motion(len(actions), told.clipped + told.refused, jerk.round(1).tolist())


def row_of(motions: Sequence[Motion]) -> dict:
    """In the results file's terms: the share of the commands, and the jerk over all ticks of all episodes."""
    if not motions:
        return {}
    jerk = np.concatenate([motion.jerk for motion in motions])
    return {
        "commands_shortened": sum(motion.shortened for motion in motions) / sum(motion.commands for motion in motions),
        "jerk_m_per_s3": {"rms": float(np.sqrt(np.mean(jerk**2))), "p95": float(np.percentile(jerk, 95))},
    }
