# SPDX-License-Identifier: Apache-2.0
"""What a decoder answers: the action, and how it came about."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

STAGES = ("vision", "prefill", "draft", "decode")


@dataclass(frozen=True)
class PassRecord:
    """One pass of the language model. kind: "prefill" or "extend". drafted: positions of the draft. accepted: of its tokens."""

    kind: str
    drafted: int
    accepted: int


@dataclass(frozen=True)
class Decision:
    """bins (7,) int 0..255; action (7,) [m, rad, gripper 0..1]; the other fields as in vla_sd_msgs/DecodeStep.

    timings_ms: milliseconds by stage, device-synchronised: vision, prefill, draft, decode, total. passes: what another
    engine needs to replay the same work.
    """

    bins: np.ndarray
    action: np.ndarray
    decoder: str
    path: str
    timings_ms: dict[str, float]
    passes: tuple[PassRecord, ...] = ()
    threshold: float = 0.0
    fused_metric: float = float("nan")

    @property
    def forward_passes(self) -> int:
        """Of the language model."""
        return len(self.passes)

    @property
    def accepted_length(self) -> int:
        """Drafted tokens that were accepted, in all passes together."""
        return sum(record.accepted for record in self.passes)


@dataclass
class Stopwatch:
    """Times the stages of one action; synchronise() is called before each reading of the clock."""

    synchronise: Callable[[], None]
    timings_ms: dict[str, float] = field(default_factory=lambda: dict.fromkeys((*STAGES, "total"), 0.0))

    def __post_init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Book the time since the last lap under a stage."""
        self.synchronise()
        now = time.perf_counter()
        self.timings_ms[stage] += 1000 * (now - self._last)
        self.timings_ms["total"] += 1000 * (now - self._last)
        self._last = now
