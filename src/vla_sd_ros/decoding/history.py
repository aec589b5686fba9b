# SPDX-License-Identifier: Apache-2.0
"""What is known before the model looks at an image: the actions of the goal so far, and what the arm made of them."""

from dataclasses import dataclass, field

import numpy as np

from vla_sd_ros.kinematics.motion import motion
from vla_sd_ros.kinematics.pose import Pose
from vla_sd_ros.policy.actions import ActionStatistics, decode


@dataclass
class History:
    """Of one goal; make a new one for the next. It outlives a change of the decoder.

    statistics: those of the policy. bins: list of (7,) int, the executed actions. measured: the end effector at the image of
    each step, None where it is not known; it is one longer than bins while a step is being decided.
    interrupted: number of the step before which the arm was last held, or its image late; -1: none.
    """

    statistics: ActionStatistics
    bins: list[np.ndarray] = field(default_factory=list)
    measured: list[Pose | None] = field(default_factory=list)
    interrupted: int = -1

    def __len__(self) -> int:
        return len(self.bins)

    def see(self, measured: Pose | None) -> None:
        """A new step begins: the end effector was there when its image was taken."""
        self.measured = [*self.measured[: len(self.bins)], measured]

    def record(self, bins: np.ndarray) -> None:
        """The step's action, as bins (7,), was commanded."""
        if len(self.measured) == len(self.bins):
            self.measured.append(None)
        self.bins.append(np.asarray(bins))

    def interrupt(self) -> None:
        """The arm is held, or its image late: what was foreseen of the next step holds no longer."""
        self.interrupted = len(self.bins)

    def executed(self, step: int) -> np.ndarray:
        """The commanded action (7,) of a step, normalised."""
        return decode(self.bins[step])

    def moved(self, step: int) -> np.ndarray | None:
        """What the arm did from the image of a step to that of the next, as a normalised action (7,), gripper as commanded.

        None where it was not measured, jumped or was not finite.
        """
        if step + 1 >= len(self.measured) or self.measured[step] is None or self.measured[step + 1] is None:
            return None
        twist = motion(self.measured[step], self.measured[step + 1])
        if twist is None:
            return None
        return np.append(self.statistics.normalise(np.append(twist, 0.0))[:6], self.executed(step)[6])

    def position(self) -> np.ndarray | None:
        """Where the end effector is now (3,) [m]."""
        newest = self.measured[-1] if self.measured else None
        return newest.position if newest is not None and newest.finite else None
