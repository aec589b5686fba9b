# SPDX-License-Identifier: Apache-2.0
"""The newest message of each input, its age, and when an image is due for an action."""

import math
from typing import Any, NamedTuple, Protocol

from vla_sd_ros.messages import stamps


class Clock(Protocol):
    """The times that a node lives by."""

    def now(self) -> float:
        """Seconds on the node's clock, which is simulated time where use_sim_time is set."""

    def steady(self) -> float:
        """Seconds of a clock that never jumps."""

    def wall(self) -> int:
        """Nanoseconds of the wall clock, as the middleware stamps messages."""


class Sample(NamedTuple):
    """One received message; stamp on the node's clock (see stamps.py), received steady."""

    message: Any
    stamp: float
    received: float


class Latest:
    """The newest message of a topic: no queue. One writer, any reader; a sample is replaced in one piece."""

    def __init__(self) -> None:
        self.sample: Sample | None = None

    def age(self, clock: float, steady: float) -> float:
        """Seconds by stamp and receipt, see stamps.py; negative for a stamp ahead of the clock. inf: nothing."""
        sample = self.sample
        return math.inf if sample is None else stamps.age(sample.stamp, clock, steady - sample.received)


class Pacer:
    """One action per control period, each on an image that was not used before.

    The time that passes here decides: an action may come sooner than a period after the one before only as far as that one
    came late, so that over any time there are no more actions than periods, whatever the stamps say. Within that, an image
    whose stamp lies a period after that of the last used one is taken when it comes: a camera at the control rate adds no
    delay. Cameras whose frames fall otherwise are sampled by time.
    """

    SPACING = 0.95  # of a period, between the stamps of two images; leaves room for jitter
    PATIENCE = 1.1  # of a period, since the last action, after which an image with less spacing will do
    HASTE = 0.5  # of a period, by which an action may come early after one that came late
    PACE = 0.98  # of a period, between actions in the long run: cameras and clocks differ by so much
    LATE = 1.5  # of a period, between the stamps of two used images: what the first one foretold is over

    def __init__(self) -> None:
        self._seen: tuple[float, float] | None = None  # stamp and arrival of the last image that was taken, used or not
        self._stamp: float | None = None  # of the last used one
        self._started = self._due = -math.inf  # the last action, and when the next one would be on time

    def wait(self, sample: Sample | None, steady: float, period: float) -> float:
        """Seconds until this image may be used; 0: now; inf: it has been used, or there is none."""
        if sample is None or (sample.stamp, sample.received) == self._seen:
            return math.inf
        # Equal: the same image twice, or a driver that stamps by the second.
        close = self._stamp is not None and 0.0 <= sample.stamp - self._stamp < self.SPACING * period
        # Negative: the clock was set back, and the stamps say nothing.
        free = max(self._started + (self.PATIENCE if close else self.HASTE) * period, self._due - self.HASTE * period)
        return max(0.0, free - steady)

    def late(self, sample: Sample, steady: float, period: float) -> bool:
        """Whether this image comes so late after the last used one, by its stamp or by the time that passed, that an action or
        more was left out."""
        if self._stamp is None:
            return True
        return not 0.0 <= sample.stamp - self._stamp < self.LATE * period or steady - self._started > self.LATE * period

    def use(self, sample: Sample, steady: float, period: float) -> None:
        """An action is decided on this image."""
        self._seen, self._stamp = (sample.stamp, sample.received), sample.stamp
        self._started, self._due = steady, max(self._due, steady) + self.PACE * period

    def skip(self, sample: Sample) -> None:
        """No action came of this image: the next one may be used at once."""
        self._seen = sample.stamp, sample.received
