# SPDX-License-Identifier: Apache-2.0
"""Whether the commands of a goal are in the units that this arm is told of, metres and radians."""

from collections import deque

import numpy as np

from vla_sd_ros.control.codes import Code, Fault

NEWEST = 20  # commands that are looked back over
FEWEST = 6  # of which more than half must be wrong, where fewer have come
USUAL_TRANSLATION, USUAL_ROTATION = 0.05, 0.25  # m, rad: the longest steps of bridge_orig's policies
TOO_LONG = 2.0  # times that, or the arm's limit where that is more: nobody means such steps one after the other
ABSURD = 10.0  # times the same: a single one is enough


class UnitsWatch:
    """Counts commands beyond the limits of one step.

    Whoever lowers the limits for a first look has most commands clipped, and is told. Where most of them are far beyond what
    any policy means, the units are wrong, and the arm does something else than asked.
    """

    def __init__(self):
        self._clipped: deque[bool] = deque(maxlen=NEWEST)
        self._too_long: deque[bool] = deque(maxlen=NEWEST)

    @property
    def mostly_clipped(self) -> bool:
        """Whether more than half of the newest commands went beyond the limits of one step."""
        return sum(self._clipped) > NEWEST // 2

    def check(self, wanted: np.ndarray, max_translation: float, max_rotation: float) -> Fault | None:
        """What is wrong with the newest commands; wanted: displacement (6,) of the newest one [m], [rad], not clipped yet."""
        # The largest entry, not the norm: the square of a huge one would overflow.
        translation, rotation = (float(np.abs(part).max()) for part in (wanted[:3], wanted[3:]))
        self._clipped.append(translation > max_translation or rotation > max_rotation)
        times = max(translation / max(max_translation, USUAL_TRANSLATION), rotation / max(max_rotation, USUAL_ROTATION))
        self._too_long.append(times > TOO_LONG)
        if times <= ABSURD and sum(self._too_long) <= max(FEWEST, len(self._too_long)) // 2:
            return None
        which = "a command goes" if times > ABSURD else "most commands go"
        return Fault(
            Code.COMMANDS_CLIPPED,
            f"{which} far beyond the limits of one step, the newest {translation:.3g} m and {rotation:.3g} rad where "
            f"{max_translation:.3g} m and {max_rotation:.3g} rad are allowed: see whether the policy's action statistics are "
            "those of this arm, in metres and radians, or lower action_scale",
        )
