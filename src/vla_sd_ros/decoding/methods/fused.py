# SPDX-License-Identifier: Apache-2.0
"""Ours, all together: the draft head's action unverified while the head is sure of it, otherwise prefill_jacobi.

How far a draft may be off follows the kinematics: little while the arm moves slowly, which it does where it matters, more
while it moves fast, where the next step makes up for it. At most fused_run steps in a row go unverified, and a change of the
gripper never does. The head's confidence was calibrated where the policy does well; where it does not, the head is surely wrong for
many steps on end, as before a drawer that does not open. So its word counts only while it was right when the language model ran last.

A head that looks ahead foretells the next steps, too. Where it is sure of one, that is executed without a look at its image; at
most ahead_steps in a row, then the camera is looked at again.
"""

from typing import NamedTuple

import numpy as np

from vla_sd_ros.decoding.history import History
from vla_sd_ros.decoding.methods.prefill import PrefillJacobi
from vla_sd_ros.decoding.settings import Settings
from vla_sd_ros.decoding.sources import Knowledge, Marginals, marginals
from vla_sd_ros.decoding.speculative import Outcome, Plan
from vla_sd_ros.policy.actions import BINS
from vla_sd_ros.policy.vla import Prompt, Vla

HALF_OPEN = 3 * BINS // 4  # bin of a gripper at 0.5, which is not normalised
AHEAD = "ahead"  # path of a step without a look


class Look(NamedTuple):
    """At the image of a step, from which the next ones may be foretold. by: which of them is due, 1 for the first."""

    prompt: Prompt
    instruction: str
    history: History
    step: int
    by: int = 1


class Fused(PrefillJacobi):
    """The draft head's action or PrefillJacobi's plan."""

    def __init__(self, settings: Settings, drafter=None):
        super().__init__(settings, drafter)
        self._unverified = 0  # steps in a row
        self._right = True  # whether the head was, when the language model ran last
        self._look: Look | None = None

    def foresee(self, knowledge: Knowledge) -> Plan | None:
        look, self._look = self._look, None
        if look is None or look.by > self._settings.ahead_steps or not follows(look, knowledge):
            return None
        if not self._may_skip():
            return None
        found = foretold(knowledge.vla, look.prompt, knowledge.history, look.by)
        if found is None or turns(*knowledge.history.bins[-2:]):
            return None
        action, within = self._draft(knowledge, found)
        if turns(knowledge.history.bins[-1], action) or within.prod() < self._settings.ahead_confidence:
            return None
        self._unverified += 1
        self._look = look._replace(by=look.by + 1)
        return Plan(AHEAD, skip=action)

    def plan(self, knowledge: Knowledge) -> Plan:
        action = self._sure(knowledge) if self._may_skip() else None
        self._unverified = self._unverified + 1 if action is not None else 0
        return super().plan(knowledge) if action is None else Plan("skip", skip=action)

    def learn(self, knowledge: Knowledge, plan: Plan, outcome: Outcome) -> None:
        if outcome.passes and (found := knowledge.head_marginals) is not None:
            self._right = self._was_right(knowledge, found, outcome)
        prompt, head = knowledge.prompt, knowledge.vla.draft_head
        if prompt is None or outcome.rejected or self._settings.ahead_confidence > 1.0:
            return
        if head is not None and head.looks_ahead:
            self._look = Look(prompt, knowledge.instruction, knowledge.history, len(knowledge.history))

    def _may_skip(self) -> bool:
        return self._unverified < self._settings.fused_run and (self._right or not self._settings.skip_while_right)

    def _was_right(self, knowledge: Knowledge, found: Marginals, outcome: Outcome) -> bool:
        """Whether the motion that the head would have executed is near enough to what the language model said."""
        radius = kinematic_radius(self._settings, knowledge.vla, found)
        action, _ = found.within(radius)
        return bool((np.abs(action - outcome.tokens) <= radius)[:6].all())

    def _sure(self, knowledge: Knowledge) -> np.ndarray | None:
        """The draft head's action (7,) if it need not be verified."""
        if knowledge.head_marginals is None or not len(knowledge.history):
            return None
        action, within = self._draft(knowledge, knowledge.head_marginals)
        turned = turns(knowledge.history.bins[-1], action)
        return None if turned or within[:6].prod() < self._settings.skip_confidence else action

    def _draft(self, knowledge: Knowledge, found: Marginals) -> tuple[np.ndarray, np.ndarray]:
        """An action (7,) of the draft head, and its own probability (7,) that each token is near enough to the verifier's."""
        return found.within(kinematic_radius(self._settings, knowledge.vla, found))


def follows(look: Look, knowledge: Knowledge) -> bool:
    """Whether this is the step that is due after a look, of the same goal, and nothing came between them; the goal's third at
    least."""
    history = knowledge.history
    return (
        history is look.history
        and len(history) == look.step + look.by
        and look.step > 0
        and history.interrupted <= look.step
        and knowledge.instruction == look.instruction
    )


def foretold(vla: Vla, prompt: Prompt, history: History, by: int) -> Marginals | None:
    """What the draft head thinks of the step so many after the one whose prompt this is; None where that is not finite."""
    return marginals(vla.draft_ahead(prompt, np.array(history.bins[-2:]), by))


def turns(before: np.ndarray, action: np.ndarray) -> bool:
    """Whether the gripper opens or closes from one action (7,) to the next."""
    return bool((before[6] >= HALF_OPEN) != (action[6] >= HALF_OPEN))


def kinematic_radius(settings: Settings, vla: Vla, found: Marginals) -> np.ndarray:
    """The radius (7,) of fused in bins, which rises with the length of the head's translation; the gripper's is 0."""
    s = settings
    draft = found.within(np.ones(7))[0]
    length = float(np.linalg.norm(vla.action(draft)[:3]))
    radius = s.fused_radius_min + (s.fused_radius_max - s.fused_radius_min) * min(1.0, length / s.fused_translation)
    return np.append(np.full(6, np.floor(radius)), 0.0)
