# SPDX-License-Identifier: Apache-2.0
"""What a decoder answers: the action, and how it came about."""
import time
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Decision:
    """bins (7,) int 0..255; action (7,) [m, rad, gripper 0..1]; the other fields as in vla_sd_msgs/DecodeStep.

    timings_ms: milliseconds by stage, device-synchronised: vision, prefill, draft, decode, total.
    """

    bins: np.ndarray
    action: np.ndarray
    decoder: str
    path: str
    accepted_length: int
    forward_passes: int
    threshold: float
    fused_metric: float
    timings_ms: dict[str, float]


@dataclass
class Stopwatch:
    """Times the stages of one action; synchronise() is called before each reading of the clock."""

    synchronise: callable
    timings_ms: dict[str, float] = field(
        default_factory=lambda: {"vision": 0.0, "prefill": 0.0, "draft": 0.0, "decode": 0.0, "total": 0.0}
    )

    def __post_init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Book the time since the last lap under a stage."""
        self.synchronise()
        now = time.perf_counter()
        self.timings_ms[stage] += 1000 * (now - self._last)
        self.timings_ms["total"] += 1000 * (now - self._last)
        self._last = now
