# SPDX-License-Identifier: Apache-2.0
"""Which decoder a bundle names: the fastest of those whose actions are the policy's own, as measured on held-out episodes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vla_sd_ros.bench.decode import CLOSE, Answer
from vla_sd_ros.bench.results import wilson

AGREED = 0.9  # share of actions that must be the policy's own within CLOSE bins, gripper equal
SKIPPED = 0.9  # the same of those that no pass of the language model verified
FEW = 20  # unverified actions, of which fewer say nothing


@dataclass(frozen=True, kw_only=True)
class Row:
    """One decoder as measured: latency [ms], passes of the language model and accepted tokens of an action; shares of equal
    tokens, of actions that are the policy's within CLOSE bins, of actions without a pass, and of those that are the policy's.

    objection: why it is not to be chosen; empty where it is.
    """

    name: str
    count: int
    median_ms: float
    mean_ms: float
    passes: float
    accepted: float
    same_tokens: float
    agreed: float
    skipped: float
    skipped_agreed: float
    objection: str


def rows(answers: Mapping[str, Sequence[Answer]]) -> list[Row]:
    """What was measured of each decoder."""
    return [_row(name, own) for name, own in answers.items()]


def _row(name: str, own: Sequence[Answer]) -> Row:
    bins, plain = np.array([a.bins for a in own]), np.array([a.plain for a in own])
    agreed = alike(bins, plain)
    unverified = np.array([not a.step.passes for a in own])
    skipped = float(agreed[unverified].mean()) if unverified.any() else 1.0
    total = np.array([a.step.timings_ms["total"] for a in own])
    return Row(
        name=name,
        count=len(own),
        median_ms=float(np.median(total)),
        mean_ms=float(total.mean()),
        passes=float(np.mean([len(a.step.passes) for a in own])),
        accepted=float(np.mean([a.step.accepted for a in own])),
        same_tokens=float((bins == plain).mean()),
        agreed=float(agreed.mean()),
        skipped=float(unverified.mean()),
        skipped_agreed=skipped,
        objection=_objection(agreed, unverified),
    )


def alike(bins: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """Whether actions (n, 7) are the others within CLOSE bins, the gripper's token the same (n,)."""
    return (np.abs(bins - plain)[:, :6] <= CLOSE).all(1) & (bins[:, 6] == plain[:, 6])


def _objection(agreed: np.ndarray, unverified: np.ndarray) -> str:
    """Each share must be above its bound with 97.5 % certainty, so that few observations choose nothing daring."""
    if agreed.all() and not unverified.any():
        return ""
    if wilson(int(agreed.sum()), len(agreed))[0] < AGREED:
        return f"{agreed.mean():.0%} of its actions are the policy's own, not {AGREED:.0%} for certain"
    count = int(unverified.sum())
    if count and (count < FEW or wilson(int(agreed[unverified].sum()), count)[0] < SKIPPED):
        return f"of {count} unverified actions {agreed[unverified].mean():.0%} are the policy's own, not {SKIPPED:.0%} for certain"
    return ""


def choose(measured: Sequence[Row]) -> Row:
    """The fastest on average that nothing speaks against; autoregressive decoding itself is among them.

    The reference decoders, which are as others have released them, are there to compare with.
    """
    return min((row for row in measured if not row.objection and not row.name.endswith("_reference")), key=lambda row: row.mean_ms)


@dataclass(frozen=True)
class Agreement:
    """How often the policy's actions are the recorded ones within CLOSE bins, and the same of recorded actions of other steps,
    which is what a policy that does not look at the image comes to. Shares of single motions: x, y, z, roll, pitch, yaw."""

    own: float
    other: float
    count: int

    @property
    def nothing(self) -> bool:
        """Whether there is no sign that the policy does what was recorded."""
        spread = np.sqrt(max(self.other * (1.0 - self.other), 1e-4) / self.count)
        return self.own <= self.other + 2.0 * spread

    @classmethod
    def of(cls, plain: np.ndarray, recorded: np.ndarray, seed: int = 0) -> "Agreement":
        """Of bins (n, 7) that the policy decided on, and those that were recorded for the same images."""
        near = np.abs(plain - recorded)[:, :6] <= CLOSE
        rng = np.random.default_rng(seed)
        others = [(np.abs(plain - recorded[rng.permutation(len(recorded))])[:, :6] <= CLOSE).mean() for _ in range(20)]
        return cls(float(near.mean()), float(np.mean(others)), len(plain))
