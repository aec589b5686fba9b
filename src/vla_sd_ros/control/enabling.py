# SPDX-License-Identifier: Apache-2.0
"""The enabling switch that somebody holds while the arm may move."""

import math

from vla_sd_ros.control.codes import Code, Fault
from vla_sd_ros.control.config import Config


class EnablingSwitch:
    """Its newest message; heeded where the configuration asks for it."""

    def __init__(self) -> None:
        self._held_at = -math.inf

    def see(self, held: bool, now: float) -> None:
        """Take one message, which came at the time `now` [s]."""
        self._held_at = now if held else -math.inf

    def fault(self, now: float, config: Config) -> Fault | None:
        """What is wrong at this time."""
        if config.enable_required and now - self._held_at > config.enable_timeout:
            return Fault(Code.DISABLED, "the enabling switch is not held, so the arm holds")
        return None
