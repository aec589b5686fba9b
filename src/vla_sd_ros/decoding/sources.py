# SPDX-License-Identifier: Apache-2.0
"""Sources: what a step knows before the language model runs, and how a draft is made of it.

Knowledge answers with whole actions as candidates (k, 7) int, none where it knows nothing. A Source turns them into the
drafts of one action; a drafter's own is policy.drafter.Session.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from vla_sd_ros.decoding.history import History
from vla_sd_ros.decoding.settings import Settings
from vla_sd_ros.kinematics.filters import ActionFilter, constant_velocity, decaying
from vla_sd_ros.policy.actions import BINS, encode
from vla_sd_ros.policy.draft import EMPTY, Draft, likeliest, merge
from vla_sd_ros.policy.vla import ACTION_TOKENS, Prefill, Prompt, Vla
from vla_sd_ros.retrieval.database import DatabaseError

NONE = np.empty((0, ACTION_TOKENS), dtype=int)
# The verifier's own token follows whatever is accepted, so the seventh is drafted only where a decoder asks for it (kerv).
DRAFTED_TOKENS = ACTION_TOKENS - 1


class Source(Protocol):
    """Proposes the drafts of one action."""

    def start(self, prompt: Prompt, out: Prefill) -> None:
        """The prefill has run."""

    def propose(self, tokens: list[int]) -> Draft:
        """What may follow the tokens so far, no deeper than the action has tokens left; may be empty."""

    def follow(self, bins: np.ndarray, hidden) -> None:
        """A later pass has committed these tokens (n,), with the verifier's last hidden states (n, h) at them."""


class Foreknown:
    """A source that does not need what the verifier's passes compute."""

    def start(self, prompt: Prompt, out: Prefill) -> None:
        """Not needed."""

    def follow(self, bins: np.ndarray, hidden) -> None:
        """Not needed."""


class Candidates(Foreknown):
    """Whole actions (k, 7) as one tree."""

    def __init__(self, bins: np.ndarray):
        self._bins = bins

    def propose(self, tokens: list[int]) -> Draft:
        """What the candidates have for the remaining dimensions."""
        if not len(self._bins) or len(tokens) >= DRAFTED_TOKENS:
            return EMPTY
        return merge(self._bins[:, len(tokens) : DRAFTED_TOKENS])


class Iterated(Candidates):
    """One whole action (1, 7), of which the verifier's tokens take the place as soon as it has said them."""

    def revise(self, first: int, verifier_bins: np.ndarray) -> None:
        """The verifier's bins (n,) from the dimension `first` on, each given the draft's before it."""
        self._bins = self._bins.copy()
        self._bins[0, first : first + len(verifier_bins)] = verifier_bins


class Likeliest(Foreknown):
    """Trees of the most probable actions by the probabilities (7, 256) of a draft head."""

    def __init__(self, probabilities: np.ndarray, nodes: int, least: float):
        self._probabilities, self._nodes, self._least = probabilities, nodes, least

    def propose(self, tokens: list[int]) -> Draft:
        """The most probable continuations, whatever the tokens so far are."""
        remaining = self._probabilities[len(tokens) : DRAFTED_TOKENS]
        return likeliest(remaining, self._nodes, self._least) if len(remaining) else EMPTY


class Marginals:
    """What a draft head thinks of the seven tokens of an action, each by itself: probabilities (7, 256)."""

    def __init__(self, probabilities: np.ndarray):
        self.probabilities = probabilities

    @cached_property
    def peaks(self) -> np.ndarray:
        """The most probable bins (7,)."""
        return self.probabilities.argmax(-1)

    @cached_property
    def medians(self) -> np.ndarray:
        """The bins (7,) up to which half of the probability lies."""
        return (self._below[:, 1:] >= 0.5).argmax(-1)

    @cached_property
    def _below(self) -> np.ndarray:
        """The probability (7, 257) of all bins before each one."""
        below = np.zeros((len(self.probabilities), BINS + 1))
        np.cumsum(self.probabilities, axis=-1, out=below[:, 1:])
        return below

    def within(self, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A draft (7,) for relaxed acceptance, and the head's own probability (7,) that it lies within radius (7,) bins of
        the verifier's.

        The median: it is nearer to the verifier's token on average, and more often within the radius, than the most probable
        bin. Where the radius is 0, the most probable bin.
        """
        bins = np.where(radius > 0, self.medians, self.peaks)
        low, high = np.maximum(bins - radius.astype(int), 0), np.minimum(bins + radius.astype(int) + 1, BINS)
        each = np.arange(len(bins))
        return bins, self._below[each, high] - self._below[each, low]


def marginals(probabilities: np.ndarray) -> Marginals | None:
    """None where one is not finite."""
    return Marginals(probabilities) if np.isfinite(probabilities).all() else None


NOTHING = Candidates(NONE)


class KalmanFilter:
    """Follows a history from step to step; begins anew with a new one. Built when it is first asked."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._history: History | None = None
        self._steps = 0

    @cached_property
    def _filter(self) -> ActionFilter:
        s = self._settings
        if s.kalman_model == "decaying":  # and the gripper repeats its last command
            kalman = decaying(np.append(s.kalman_decay, 1.0), np.append(np.full(6, s.kalman_measurement), 0.0))
        else:
            kalman = constant_velocity(s.kalman_process, s.kalman_measurement)
        return ActionFilter(kalman, s.kalman_window, s.kalman_gate)

    def predict(self, history: History) -> np.ndarray | None:
        """The next action, normalised (7,); None at the first step."""
        if history is not self._history or len(history) < self._steps:
            self._history, self._steps = history, 0
            self._filter.clear()
        for step in range(self._steps, len(history)):
            self._filter.update(observed(history, step, self._settings.kalman_observe))
        self._steps = len(history)
        return self._filter.predict()


def observed(history: History, step: int, what: str) -> np.ndarray:
    """What the filter sees of a step (7,), normalised: the measured motion where that is asked for and known, else the action."""
    moved = history.moved(step) if what == "measured" else None
    return history.executed(step) if moved is None else moved


@dataclass
class Knowledge:
    """What the sources can draw on in one step; each is asked at most once. prompt: None before the image has been looked at."""

    vla: Vla
    settings: Settings
    filter: KalmanFilter
    database: Any
    history: History
    instruction: str
    prompt: Prompt | None = None

    def candidates(self, source: str) -> np.ndarray:
        """The candidates (k, 7) of a source."""
        return getattr(self, source)

    def candidates_within(self, source: str, radius: np.ndarray) -> np.ndarray:
        """The candidates (k, 7) of a source for acceptance within radius (7,) bins."""
        if source == "head" and self.head_marginals is not None:
            return self.head_marginals.within(radius)[0][None]
        return self.candidates(source)

    def nearest(self, source: str) -> np.ndarray:
        """The one candidate (1, 7) of a source that is nearest to the verifier's tokens on average; (0, 7) for none."""
        return self.candidates_within(source, np.ones(7))[:1]

    @cached_property
    def last_action(self) -> np.ndarray:
        """The bins (1, 7) of the previous action; (0, 7) at the first step."""
        return self.history.bins[-1][None] if len(self.history) else NONE

    @cached_property
    def kalman(self) -> np.ndarray:
        """The bins (1, 7) that the filter predicts; (0, 7) while it knows too little."""
        prediction = self.filter.predict(self.history)
        return NONE if prediction is None else encode(prediction)[None]

    @cached_property
    def head_marginals(self) -> Marginals | None:
        """What the draft head thinks; None without a head, and where that is not finite."""
        return None if self.vla.draft_head is None else marginals(self.vla.draft(self.prompt))

    @cached_property
    def head(self) -> np.ndarray:
        """The draft head's most probable bins (1, 7); (0, 7) where it gives none."""
        return NONE if self.head_marginals is None else self.head_marginals.peaks[None]

    @cached_property
    def neighbours(self):
        """The nearest steps of the database's demonstrations of the same instruction; None where it does not answer."""
        if self.database is None:
            return None
        features = self.prompt.features.float().cpu().numpy()
        try:
            return self.database.query(features, self.instruction, self.settings.retrieval_candidates)
        except DatabaseError:  # a server that is away: the other sources, or none, have to do
            return None

    @cached_property
    def retrieval(self) -> np.ndarray:
        """The bins (k, 7) of the nearest neighbours' actions, nearest first; (0, 7) where there are none."""
        if self.neighbours is None or not len(self.neighbours.actions):
            return NONE
        return encode(self.vla.statistics.normalise(self.neighbours.actions))

    @cached_property
    def median(self) -> np.ndarray:
        """The median (1, 7) of the nearest neighbours' bins in each dimension; (0, 7) where there are none."""
        return np.median(self.retrieval, axis=0).round().astype(int)[None] if len(self.retrieval) else NONE

    @cached_property
    def composite(self) -> np.ndarray:
        """Bins (1, 7), each from the source that is set for its dimension, or where that one knows nothing, from the first that does.

        (0, 7) where none knows anything.
        """
        known = {source: self.candidates(source) for source in self.settings.composite}
        fallback = next((rows for rows in known.values() if len(rows)), NONE)
        if not len(fallback):
            return NONE
        rows = [known[source] if len(known[source]) else fallback for source in self.settings.composite]
        return np.array([[row[0, dimension] for dimension, row in enumerate(rows)]])
