# SPDX-License-Identifier: Apache-2.0
"""What keeps goals from beginning."""

from vla_sd_ros.control.codes import Code, Fault


class Blocks(dict[str, Fault]):
    """What is wrong at present, by who found it."""

    def foremost(self) -> Fault:
        """The one that is told: a hold by hand, for whoever called it looks for it and releases it; else the oldest."""
        return min(self.values(), key=lambda fault: fault.code != Code.HELD)
