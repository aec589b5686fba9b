# SPDX-License-Identifier: Apache-2.0
"""Ours, all together: the draft head's action unverified while the head is sure of it, otherwise prefill_jacobi.

How far a draft may be off follows the kinematics: little while the arm moves slowly, which it does where it matters, more
while it moves fast, where the next step makes up for it. At most fused_run steps in a row go unverified, and a change of the
gripper never does.
"""
import numpy as np

from vla_sd_ros.decoding.methods.prefill import PrefillJacobi
from vla_sd_ros.decoding.settings import Settings
from vla_sd_ros.decoding.sources import Knowledge
from vla_sd_ros.decoding.speculative import Plan
from vla_sd_ros.policy.actions import BINS

HALF_OPEN = 3 * BINS // 4  # bin of a gripper at 0.5, which is not normalised


class Fused(PrefillJacobi):
    """The draft head's action or PrefillJacobi's plan."""

    def __init__(self, settings: Settings, drafter=None):
        super().__init__(settings, drafter)
        self._skipped = 0  # steps in a row

    def plan(self, knowledge: Knowledge) -> Plan:
        action = self._sure(knowledge) if self._skipped < self._settings.fused_run else None
        self._skipped = self._skipped + 1 if action is not None else 0
        return super().plan(knowledge) if action is None else Plan("skip", skip=action)

    def _sure(self, knowledge: Knowledge) -> np.ndarray | None:
        """The draft head's action (7,) if it need not be verified."""
        if knowledge.head_probabilities is None or not len(knowledge.history):
            return None
        action, probability = knowledge.head_within(kinematic_radius(self._settings, knowledge))
        turned = (action[6] >= HALF_OPEN) != (knowledge.last_action[0, 6] >= HALF_OPEN)
        return None if turned or probability[:6].prod() < self._settings.skip_confidence else action


def kinematic_radius(settings: Settings, knowledge: Knowledge) -> np.ndarray:
    """The radius (7,) of fused in bins, which rises with the length of the head's translation; the gripper's is 0."""
    s = settings
    draft = knowledge.nearest("head")[0]
    length = float(np.linalg.norm(knowledge.vla.action(draft)[:3]))
    radius = s.fused_radius_min + (s.fused_radius_max - s.fused_radius_min) * min(1.0, length / s.fused_translation)
    return np.append(np.full(6, np.floor(radius)), 0.0)
