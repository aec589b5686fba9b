# SPDX-License-Identifier: Apache-2.0
"""The limits that an ArmController keeps."""

from dataclasses import dataclass, field

import numpy as np

from vla_sd_ros.control.following import FollowLimits
from vla_sd_ros.control.reach import JointLimits
from vla_sd_ros.control.tracker import Limits

BLEND_START = 0.1  # share of the velocity limit at which a goal starts


@dataclass(frozen=True, kw_only=True)
class Config:
    """The limits in force. Lengths [m], angles [rad], times [s], base axes; see config/sim.yaml for the effects."""

    base_frame: str = "panda_link0"
    command_timeout: float = 0.5
    joint_state_timeout: float = 0.2
    max_translation: float = 0.05
    max_rotation: float = 0.25
    workspace_low: np.ndarray = field(default_factory=lambda: np.array([0.1, -0.5, -0.05]))
    workspace_high: np.ndarray = field(default_factory=lambda: np.array([0.8, 0.5, 0.9]))
    limits: Limits = Limits(0.6, 5.0, 300.0, 2.5, 20.0, 1200.0)
    open_above: float = 0.55
    close_below: float = 0.45
    action_scale: float = 1.0
    blend_in: float = 0.3
    command_max_age: float = 5.0
    follow: FollowLimits = FollowLimits()
    enable_required: bool = False
    enable_timeout: float = 0.5
    joints: JointLimits = JointLimits()
    dry_run: bool = False  # nothing is sent, so that the arm follows nothing

    def settling_time(self) -> float:
        """A bound on the time from the last command of a running goal to rest [s], not counting one tick."""
        return self.command_timeout + self.limits.stopping_time()

    def limits_of_goal(self, since: float) -> Limits:
        """Those in force at a time since its goal began [s]: the velocity rises from BLEND_START of its limit to all of it."""
        share = 1.0 if since >= self.blend_in or self.blend_in <= 0.0 else max(BLEND_START, since / self.blend_in)
        return self.limits.slowed(share)
