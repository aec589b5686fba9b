# SPDX-License-Identifier: Apache-2.0
"""One command of vla_node, and what makes it one that must not be executed."""

from dataclasses import dataclass

import numpy as np

from vla_sd_ros.control.config import Config
from vla_sd_ros.messages import stamps
from vla_sd_ros.quoting import quoted


@dataclass(frozen=True)
class Command:
    """One vla_sd_msgs/EndEffectorCommand: translation (3,) [m], rotation (3,) roll, pitch, yaw [rad], period [s]."""

    goal_id: bytes
    step: int  # of the goal, counting up
    frame: str
    hold: bool
    translation: np.ndarray
    rotation: np.ndarray
    gripper: float
    period: float
    age: float = 0.0  # of the image on which it was decided [s], see stamps.py

    def check(self, config: Config) -> None:
        """Raises ValueError, with one sentence, when the command must not be executed."""
        if self.frame != config.base_frame:
            raise ValueError(f"its frame is {quoted(self.frame)}, but this arm's base frame is '{config.base_frame}'")
        for name in ("translation", "rotation", "gripper", "period"):
            if not np.all(np.isfinite(getattr(self, name))):
                raise ValueError(f"its {name} is {getattr(self, name)}, which is not finite")
        if not abs(self.age) <= config.command_max_age:
            raise ValueError(
                f"the image it was decided on {stamps.told(self.age)}, but command_max_age is {config.command_max_age:.3g} s; see "
                "whether the clocks agree"
            )
        if not 0.0 < self.period <= config.command_timeout:
            raise ValueError(
                f"its period is {self.period:.3g} s, but must be positive and no longer than command_timeout "
                f"({config.command_timeout:.3g} s)"
            )
