# SPDX-License-Identifier: Apache-2.0
"""Speculative decoding of one action: draft, verify the draft in one pass of the language model, accept or reject, repeat.

A decoder is a method (methods/) that makes a plan for each step; speculative_decode() carries it out.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from vla_sd_ros.decoding.acceptance import Rule, exact
from vla_sd_ros.decoding.decision import Decision, PassRecord, Stopwatch
from vla_sd_ros.decoding.history import History
from vla_sd_ros.decoding.settings import Settings
from vla_sd_ros.decoding.sources import NOTHING, KalmanFilter, Knowledge, Source
from vla_sd_ros.policy.draft import EMPTY, Draft, below
from vla_sd_ros.policy.vla import ACTION_TOKENS, Prefill, Prompt, Vla

BEHIND_THE_END = -10_000  # drafted behind the end of a short path: no rule accepts it


@dataclass
class Outcome:
    """What came of a plan.

    tokens: the action's, as bins, in order. bias (7,): how far each drafted token was from the verifier's [bins], also those
    behind a rejected one, until a later pass judges that dimension anew; 0 where nothing was drafted.
    rejected: whether the verifier disagreed with a draft. completed: whether the completion gave the last of the tokens.
    """

    tokens: list[int] = field(default_factory=list)
    bias: np.ndarray = field(default_factory=lambda: np.zeros(ACTION_TOKENS, dtype=int))
    passes: list[PassRecord] = field(default_factory=list)
    rejected: bool = False
    completed: bool = False


def another_pass(outcome: Outcome) -> None:
    """The completion that leaves all tokens to the verifier."""


@dataclass(frozen=True)
class Plan:
    """How to decode one step.

    path: what DecodeStep reports; completed_path instead where the completion gave tokens. source: proposes the drafts.
    in_prefill: verify a draft in the prefill already. rule: of acceptance. complete: asked after each pass for the whole
    action (7,) without another one; None to go on. jacobi: emit the verifier's token in place of each accepted one, and
    draft what it said of the others next; with an Iterated source. skip: an action (7,) to execute without the language
    model. decode: carries the plan out in its own way, in place of speculative_decode(). threshold, fused_metric: reported.
    """

    path: str
    source: Source = NOTHING
    rule: Rule = exact
    in_prefill: bool = False
    complete: Callable[[Outcome], list[int] | None] = another_pass
    completed_path: str = ""
    jacobi: bool = False
    skip: np.ndarray | None = None
    decode: Callable[[Vla, Prompt, Stopwatch], Outcome] | None = None
    threshold: float = 0.0
    fused_metric: float = float("nan")


AUTOREGRESSIVE = Plan("autoregressive")


def speculative_decode(vla: Vla, prompt: Prompt, plan: Plan, watch: Stopwatch) -> Outcome:
    """The seven tokens of an action, of which each pass of the language model gives one and as many as were drafted well."""
    outcome = Outcome()
    while (first := len(outcome.tokens)) < ACTION_TOKENS:
        in_cache = 1 if first else 0  # nodes of the pass before the draft: the newest token, which is in no cache yet
        draft = plan.source.propose(outcome.tokens) if first or plan.in_prefill else EMPTY
        watch.lap("draft")
        out = vla.extend(below(outcome.tokens[-1], draft)) if first else vla.prefill(prompt, draft)

        # verifier_bins[0] is the verifier's greedy token after those that are decided, verifier_bins[1 + i] the one after node
        # i of the draft. So each drafted token is judged by the verifier's after its parent, and stands if the rule says so.
        verifier_bins = out.greedy()
        accepted_nodes = accept(draft, verifier_bins, first, plan.rule)
        draft_bins, judged_by = draft.bins[accepted_nodes], verifier_bins[1 + draft.parents[accepted_nodes]]

        # The verifier's token after the last accepted one costs nothing more: the bonus token.
        bonus = verifier_bins[1 + accepted_nodes[-1] if accepted_nodes else 0]
        kept_nodes = [*range(in_cache), *(in_cache + node for node in accepted_nodes)]
        vla.keep(kept_nodes)
        if isinstance(out, Prefill):
            plan.source.start(prompt, out)
        else:
            plan.source.follow(np.append(outcome.tokens[-1:], draft_bins), out.hidden[kept_nodes])
        if plan.jacobi:
            plan.source.revise(first, verifier_bins)  # type: ignore[attr-defined]  # jacobi stands for Iterated
        emitted = [*(judged_by if plan.jacobi else draft_bins).tolist(), int(bonus)]
        outcome.tokens += emitted[: ACTION_TOKENS - first]
        outcome.bias[first : first + len(draft)] = 0
        tried = likeliest_path(draft, accepted_nodes)
        outcome.bias[first : first + len(tried)] = np.abs(draft.bins[tried] - verifier_bins[1 + draft.parents[tried]])
        outcome.rejected |= len(accepted_nodes) < draft.shape.paths.shape[1]
        outcome.passes.append(PassRecord("extend" if first else "prefill", len(draft), len(accepted_nodes)))
        watch.lap("decode" if first else "prefill")

        action = plan.complete(outcome)
        if action is not None:
            outcome.tokens, outcome.completed = action, True
    return outcome


def accept(draft: Draft, verifier_bins: np.ndarray, first: int, rule: Rule) -> list[int]:
    """The longest path that a rule accepts, as nodes from the root on; the first one of equals, empty for none.

    verifier_bins (m + 1,): the verifier's token before the roots, then after each node. first: dimension of the roots.
    """
    if not len(draft):
        return []
    paths = draft.shape.paths
    drafted = np.where(paths >= 0, draft.bins[paths], BEHIND_THE_END)
    accepted_lengths = rule(drafted, verifier_bins[draft.parents + 1][paths], first)
    best = int(accepted_lengths.argmax())
    return paths[best, : accepted_lengths[best]].tolist()


def likeliest_path(draft: Draft, begin: list[int]) -> np.ndarray:
    """The nodes (n,), from the root to a leaf, of the first path of a draft that begins with these nodes."""
    if not len(draft):
        return np.empty(0, dtype=int)
    paths = draft.shape.paths
    path = paths[(paths[:, : len(begin)] == begin).all(1)][0]
    return path[path >= 0]


class Method:
    """Chooses a plan for each step. drafter: only for methods that say in factory.py that they need one."""

    own: dict = {}  # settings that belong to the method, whatever the user's are

    def __init__(self, settings: Settings, drafter=None):
        self._settings, self._drafter = settings, drafter

    def foresee(self, knowledge: Knowledge) -> Plan | None:
        """How to decode the step before its image has been looked at; None: by looking, as most methods always do."""
        return None

    def plan(self, knowledge: Knowledge) -> Plan:
        """How to decode the step of which this is known."""
        raise NotImplementedError

    def learn(self, knowledge: Knowledge, plan: Plan, outcome: Outcome) -> None:
        """See what came of the plan; most methods have nothing to learn."""


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
        history = History(vla.statistics) if history is None else history
        knowledge = Knowledge(vla, self.settings, self._filter, self._database, history, instruction)
        plan = self._method.foresee(knowledge)
        if plan is None:
            watch.lap("draft")
            prompt = knowledge.prompt = vla.observe(image, instruction)
            watch.lap("vision")
            plan = self._method.plan(knowledge)
        if plan.skip is not None:
            outcome = Outcome(tokens=plan.skip.tolist())
        elif plan.decode is not None:
            outcome = plan.decode(vla, prompt, watch)
        else:
            outcome = speculative_decode(vla, prompt, plan, watch)
        self._method.learn(knowledge, plan, outcome)
        watch.lap("draft")
        bins = np.array(outcome.tokens)
        return Decision(
            bins=bins,
            action=vla.action(bins),
            decoder=self.name,
            path=plan.completed_path if outcome.completed else plan.path,
            timings_ms=watch.timings_ms,
            passes=tuple(outcome.passes),
            threshold=plan.threshold,
            fused_metric=plan.fused_metric,
        )
