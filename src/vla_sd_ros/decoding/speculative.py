# SPDX-License-Identifier: Apache-2.0
"""The loop that every speculative decoder shares: draft, verify in one pass, accept, and so on to seven tokens.

What differs between them is the plan that a method makes for each step, of four parts: a source's session, the rule of
acceptance, how to complete after a rejection, and the choice itself.
"""
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from vla_sd_ros.decoding.acceptance import Rule, accept, exact
from vla_sd_ros.decoding.decision import Decision, PassRecord, Stopwatch
from vla_sd_ros.decoding.history import History
from vla_sd_ros.decoding.settings import Settings
from vla_sd_ros.decoding.sources import KalmanFilter, Knowledge
from vla_sd_ros.policy.draft import EMPTY, Draft, below, likeliest, merge
from vla_sd_ros.policy.vla import ACTION_TOKENS, Pass, Prompt, Vla

# The verifier's own token follows whatever is accepted, so nobody needs to draft the seventh.
DRAFTED_TOKENS = ACTION_TOKENS - 1


class Session(Protocol):
    """Drafts for one step."""

    def start(self, prompt: Prompt, out: Pass) -> None:
        """The prefill has run."""

    def propose(self, tokens: list[int]) -> Draft:
        """What may follow the tokens so far, at most DRAFTED_TOKENS - len(tokens) deep; may be empty."""

    def follow(self, bins: np.ndarray, hidden) -> None:
        """A pass has committed these tokens (n,), with the verifier's last hidden states (n, h) at them."""


class Candidates:
    """Whole actions (k, 7), known from the start."""

    def __init__(self, bins: np.ndarray):
        self._bins = bins

    def start(self, prompt: Prompt, out: Pass) -> None:
        pass

    def propose(self, tokens: list[int]) -> Draft:
        if not len(self._bins) or len(tokens) >= DRAFTED_TOKENS:
            return EMPTY
        return merge(self._bins[:, len(tokens) : DRAFTED_TOKENS])

    def follow(self, bins: np.ndarray, hidden) -> None:
        pass


class Iterated(Candidates):
    """One whole action (7,), known from the start; what is left of it after a pass becomes what the verifier said instead."""

    def revise(self, first: int, opinions: np.ndarray) -> None:
        """The verifier's bins (n,) of the tokens from the dimension `first` on, each given the draft's before it."""
        self._bins = self._bins.copy()
        self._bins[0, first : first + len(opinions)] = opinions


class Likeliest:
    """Trees of the most probable actions by the probabilities (7, 256) of a draft head, known from the start."""

    def __init__(self, probabilities: np.ndarray, nodes: int, least: float):
        self._probabilities, self._nodes, self._least = probabilities, nodes, least

    def start(self, prompt: Prompt, out: Pass) -> None:
        pass

    def propose(self, tokens: list[int]) -> Draft:
        rest = self._probabilities[len(tokens) : DRAFTED_TOKENS]
        return likeliest(rest, self._nodes, self._least) if len(rest) else EMPTY

    def follow(self, bins: np.ndarray, hidden) -> None:
        pass


NOTHING = Candidates(np.empty((0, ACTION_TOKENS), dtype=int))


@dataclass(frozen=True)
class Plan:
    """How to decode one step.

    path: what DecodeStep reports. in_prefill: draft before the prefill and verify in it. complete: after a rejection, from the
    tokens so far to the whole action (7,), or None for another pass. skip: an action (7,) to execute without the language model.
    jacobi: with an Iterated session; what is emitted for an accepted token is not the draft's but the verifier's.
    threshold, fused_metric: reported.
    """

    path: str
    session: Session = NOTHING
    rule: Rule = exact
    in_prefill: bool = False
    complete: Callable[[list[int]], list[int] | None] = lambda tokens: None
    skip: np.ndarray | None = None
    jacobi: bool = False
    threshold: float = 0.0
    fused_metric: float = float("nan")


AUTOREGRESSIVE = Plan("autoregressive")


@dataclass
class Outcome:
    """What came of a plan: the tokens, how far each drafted one was from the verifier's (7,) in bins, and how they ended.

    rejected: whether the verifier disagreed with a draft. completed: tokens that the completion gave.
    """

    tokens: list[int] = field(default_factory=list)
    bias: np.ndarray = field(default_factory=lambda: np.zeros(ACTION_TOKENS, dtype=int))
    passes: list[PassRecord] = field(default_factory=list)
    rejected: bool = False
    completed: int = 0


class Method(Protocol):
    """Chooses a plan for each step, and may learn from what came of it."""

    def plan(self, knowledge: Knowledge) -> Plan: ...

    def learn(self, knowledge: Knowledge, plan: Plan, outcome: Outcome) -> None: ...


class Speculative:
    """A decoder: one method over a loaded policy. Not thread safe."""

    def __init__(self, name: str, vla: Vla, method: Method, settings: Settings, database=None):
        self.name, self.settings = name, settings
        self._vla, self._method, self._database = vla, method, database
        self._filter = KalmanFilter(settings)

    def decide(self, image: np.ndarray, instruction: str, history: History | None = None) -> Decision:
        """The action for image (H, W, 3) uint8 RGB and an instruction.

        history: of the goal so far; without one every step is a first step. The caller records what it executes.
        """
        vla, watch = self._vla, Stopwatch(self._vla.synchronise)
        prompt = vla.observe(image, instruction)
        watch.lap("vision")
        history = History(vla.statistics) if history is None else history
        knowledge = Knowledge(vla, self.settings, self._filter, self._database, history, instruction, prompt)
        plan = self._method.plan(knowledge)
        watch.lap("draft")
        outcome = Outcome(tokens=plan.skip.tolist()) if plan.skip is not None else self._decode(prompt, plan, watch)
        self._method.learn(knowledge, plan, outcome)
        watch.lap("draft")
        bins = np.array(outcome.tokens)
        return Decision(
            bins=bins, action=vla.action(bins), decoder=self.name, path="kalman" if outcome.completed else plan.path,
            timings_ms=watch.timings_ms, passes=tuple(outcome.passes), threshold=plan.threshold,
            fused_metric=plan.fused_metric,
        )

    def _decode(self, prompt: Prompt, plan: Plan, watch: Stopwatch) -> Outcome:
        outcome = Outcome()
        draft = plan.session.propose([]) if plan.in_prefill else EMPTY
        watch.lap("draft")
        out = self._vla.prefill(prompt, draft)
        self._take(outcome, plan, "prefill", draft, out, known=0)
        watch.lap("prefill")
        plan.session.start(prompt, out)
        while len(outcome.tokens) < ACTION_TOKENS:
            action = plan.complete(outcome.tokens) if outcome.rejected else None
            if action is not None:
                outcome.completed, outcome.tokens = ACTION_TOKENS - len(outcome.tokens), action
                break
            draft = plan.session.propose(outcome.tokens)
            watch.lap("draft")
            out = self._vla.extend(below(outcome.tokens[-1], draft))
            self._take(outcome, plan, "extend", draft, out, known=1)
            watch.lap("decode")
        return outcome

    def _take(self, outcome: Outcome, plan: Plan, kind: str, draft: Draft, out: Pass, known: int) -> None:
        """Judge a draft by its pass: emit what stands and the verifier's next token, commit both to the cache.

        known: 1 where the pass began with the newest token, which is in no cache yet.
        """
        opinions, first = out.greedy(), len(outcome.tokens)
        path = accept(draft, opinions, first, plan.rule)
        nodes = [*range(known), *(node + known for node in path)]
        self._vla.keep(nodes)
        if kind == "extend":
            plan.session.follow(np.array(outcome.tokens[-1:] + draft.bins[path].tolist()), out.hidden[nodes])
        outcome.bias[first : first + len(path)] = np.abs(draft.bins[path] - opinions[draft.parents[path] + 1])
        if plan.jacobi:
            outcome.tokens += opinions[: len(path) + 1].tolist()
            plan.session.revise(first, opinions)
        else:
            outcome.tokens += [*draft.bins[path].tolist(), int(opinions[path[-1] + 1 if path else 0])]
        outcome.rejected |= len(path) < int(draft.shape.depths.max(initial=-1)) + 1
        outcome.passes.append(PassRecord(kind, len(draft), len(path)))
