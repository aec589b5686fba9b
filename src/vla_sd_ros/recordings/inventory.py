# SPDX-License-Identifier: Apache-2.0
"""What recordings hold, before anything long begins: episodes, sentences, rate, units beside the checkpoint's."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vla_sd_ros.recordings import units
from vla_sd_ros.recordings.episode import Episode, RecordingError, Skipped
from vla_sd_ros.recordings.reader import Recordings

QUANTILES = (0.01, 0.5, 0.99)
RATE_SLACK = 0.25  # share by which the recordings' period may differ from the policy's
ALIKE = 3.0  # times the checkpoint's span; steps that differ by more are worth a look
MOVING = 1e-3  # m, rad: a span of the checkpoint below it tells nothing


@dataclass(frozen=True)
class Inventory:
    """sentences: steps by instruction. actions: (N, 7) of all of them. periods: episodes by period [s], None where unknown."""

    episodes: int
    sentences: Counter
    actions: np.ndarray
    periods: Counter

    @classmethod
    def of(cls, recordings: Recordings) -> "Inventory":
        """Walk through all recordings; no picture is decoded.

        RecordingError where nothing can be used, and where the actions of a source as a whole are in other units: no metres
        and radians, or no deltas.
        """
        sentences: Counter[str] = Counter()
        periods: Counter[float | None] = Counter()
        actions: list[np.ndarray] = []
        for name, sources in recordings.groups.items():
            seen: list[np.ndarray] = []
            for episode in recordings.usable(_noting(seen, (found for source in sources for found in source))):
                sentences[episode.instruction] += len(episode.actions)
                periods[episode.period and round(episode.period, 3)] += 1
                actions.append(episode.actions)
            if seen and (objection := units.whole_objection(np.concatenate(seen))):
                raise RecordingError(f"the actions of {name} {objection}")
        if not actions:
            reasons = "; ".join(recordings.told()) or "they are empty"
            raise RecordingError(f"none of the recordings can be used: {reasons}")
        return cls(periods.total(), sentences, np.concatenate(actions), periods)

    def check_rate(self, period: float) -> None:
        """RecordingError where the recordings have another rate than a policy with this control period [s]."""
        for own, count in self.periods.items():
            if own and abs(own - period) > RATE_SLACK * period:
                mend = f"--stride {round(period / own)}, or " if round(period / own) > 1 else ""
                raise RecordingError(
                    f"{count} of {self.episodes} episodes have a step each {own:g} s, but the policy decides each {period:g} s, "
                    f"so their deltas are of another length: give {mend}--control-period {own:g} if it was trained at that rate"
                )

    def table(self, key: str, q01: np.ndarray, q99: np.ndarray) -> str:
        """Quantiles of the recordings' actions beside the statistics `key` of a checkpoint, q01 and q99 (7,), as text."""
        own = np.quantile(self.actions, QUANTILES, axis=0)
        width = max(len(key), len("recordings")) + 1
        header = [f"{axis} [{'m' if i < 3 else 'rad'}]" if i < 6 else axis for i, axis in enumerate(units.AXES)]
        rows = [("recordings", "1 %", own[0]), ("", "50 %", own[1]), ("", "99 %", own[2]), (key, "1 %", q01), ("", "99 %", q99)]
        lines = [" " * (width + 5) + "".join(f"{title:>13}" for title in header)]
        for name, quantile, values in rows:
            lines.append(f"{name:<{width}}{quantile:>5}" + "".join(f"{value:>13.4f}" for value in values))
        return "\n".join([*lines, *self._remarks(own[2] - own[0], np.asarray(q99) - np.asarray(q01)), self._rate()])

    def _remarks(self, own: np.ndarray, spans: np.ndarray) -> Iterator[str]:
        """What a reader of the table should not miss, of the spans (7,) between the quantiles."""
        for axis, span, known in zip(units.AXES[:6], own, spans):
            if known > MOVING and not 1.0 / ALIKE < span / known < ALIKE:
                yield (
                    f"{axis}: the recordings' steps are {span / known:.2g} times those of the checkpoint's statistics: see "
                    "whether units, axes and rate are its own"
                )

    def _rate(self) -> str:
        told = [
            f"{count} episodes with a step each {period:g} s" if period else f"{count} that do not tell their rate (--rate)"
            for period, count in self.periods.items()
        ]
        return ", ".join(told)


def _noting(seen: list[np.ndarray], found: Iterator[Episode | Skipped]) -> Iterator[Episode | Skipped]:
    """The same, with the actions (T, 7) added to seen, right or wrong, as long as they are numbers."""
    for episode in found:
        if isinstance(episode, Episode):
            actions = np.asarray(episode.actions)
            if actions.ndim == 2 and actions.shape[1] == 7 and actions.dtype.kind in "fiu" and np.isfinite(actions).all():
                seen.append(actions)
        yield episode
