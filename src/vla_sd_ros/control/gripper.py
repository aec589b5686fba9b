# SPDX-License-Identifier: Apache-2.0
"""Opening and closing the gripper on transitions only."""


class GripperSwitch:
    """Hysteresis between the openings that the model wants, 0 (closed) to 1 (open), and the two states of a gripper.

    Grippers take a command as a new motion each time: one must go out only when the state changes.
    """

    def __init__(self):
        self.opening: float | None = None  # the last one sent; None: unknown, the next one is sent in any case

    def update(self, wanted: float, open_above: float, close_below: float) -> float | None:
        """The opening to send now, 1.0 or 0.0, or None when nothing changes.

        Opens at `open_above` or more, closes at `close_below` or less; between the two the state stays. An unknown
        state is decided by the middle.
        """
        if self.opening is None:
            state = 1.0 if wanted >= (open_above + close_below) / 2.0 else 0.0
        elif wanted >= open_above:
            state = 1.0
        elif wanted <= close_below:
            state = 0.0
        else:
            state = self.opening
        changed = state != self.opening
        self.opening = state
        return state if changed else None
