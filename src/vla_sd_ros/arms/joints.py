# SPDX-License-Identifier: Apache-2.0
"""From a stream of poses to a stream of joint positions, for the interfaces that take those."""

import numpy as np

# A joint solution farther from the one before is another branch of the inverse kinematics, not a motion [rad].
# At 100 Hz and pi rad/s, the fastest joint of either arm moves 0.03 rad from one to the next.
LEAP = 0.2


class JointStream:
    """Each solution is sought from the one before; the first from the measured joints."""

    def __init__(self, solve):
        self._solve = solve
        self._last: np.ndarray | None = None
        self.fault = ""

    def next(self, target, joints: np.ndarray) -> np.ndarray | None:
        """Joints (n,) of the target pose; None, and `fault` says why, where there is no way to them."""
        seed = joints if self._last is None else self._last
        try:
            solution = np.asarray(self._solve(target.position, target.rotation, seed))
            leap = np.abs(solution - seed)
            if not leap.max() <= LEAP:  # also where a value is not a number
                raise ValueError(f"the joints would have to leap by {leap.max():.2f} rad to follow the target")
        except ValueError as error:
            self.fault = str(error)
            return None
        self._last, self.fault = solution, ""
        return solution

    def rest(self) -> None:
        """The next solution starts from the measured joints again."""
        self._last, self.fault = None, ""
