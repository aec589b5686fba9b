# SPDX-License-Identifier: Apache-2.0
"""Measured poses in time, to know where the end effector was when an image was taken."""

from bisect import bisect_left
from collections import deque

from vla_sd_ros.kinematics.pose import Pose, interpolate

LENGTH = 2.0  # [s] that is kept
TOLERANCE = 0.1  # [s] between an image and the nearest pose where it lies outside of them, and between two poses around it


class PoseBuffer:
    """The newest poses, by ascending stamp [s]; a stamp that jumps back empties it (a clock was reset)."""

    def __init__(self):
        self._poses: deque[tuple[float, Pose]] = deque()

    def add(self, stamp: float, pose: Pose) -> None:
        """A pose that is not finite is dropped."""
        if not pose.finite:
            return
        if self._poses and stamp <= self._poses[-1][0]:
            if stamp > self._poses[-1][0] - LENGTH:
                return  # out of order or again
            self._poses.clear()
        self._poses.append((stamp, pose))
        while stamp - self._poses[0][0] > LENGTH:
            self._poses.popleft()

    def at(self, stamp: float) -> Pose | None:
        """The pose at a time: interpolated, or the nearest one within TOLERANCE; None where there is none.

        Across a gap nothing is interpolated: the arm may have gone anywhere meanwhile.
        """
        index = bisect_left(self._poses, stamp, key=lambda entry: entry[0])
        after = self._poses[index] if index < len(self._poses) else None
        before = self._poses[index - 1] if index else None
        if before and after and after[0] - before[0] <= TOLERANCE:
            share = (stamp - before[0]) / (after[0] - before[0])
            return interpolate(before[1], after[1], share)
        near = [entry for entry in (before, after) if entry and abs(entry[0] - stamp) <= TOLERANCE]
        return min(near, key=lambda entry: abs(entry[0] - stamp))[1] if near else None
