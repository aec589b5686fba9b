# SPDX-License-Identifier: Apache-2.0
"""Plain greedy decoding, one token a pass: the baseline that every other decoder is measured against."""
import numpy as np

from vla_sd_ros.decoding.decision import Decision, Stopwatch
from vla_sd_ros.policy.draft import chain
from vla_sd_ros.policy.vla import ACTION_TOKENS, Vla


class Autoregressive:
    """decide() runs one prefill and six single-token passes."""

    name = "autoregressive"

    def __init__(self, vla: Vla):
        self._vla = vla

    def decide(self, image: np.ndarray, instruction: str) -> Decision:
        """The action for image (H, W, 3) uint8 RGB and an instruction."""
        watch = Stopwatch(self._vla.synchronise)
        prompt = self._vla.observe(image, instruction)
        watch.lap("vision")
        bins = [*self._vla.prefill(prompt).greedy()]
        watch.lap("prefill")
        while len(bins) < ACTION_TOKENS:
            bins += [*self._vla.extend(chain(bins[-1:])).greedy()]
            self._vla.keep([0])
        watch.lap("decode")
        return Decision(
            bins=np.array(bins), action=self._vla.action(np.array(bins)), decoder=self.name, path=self.name,
            accepted_length=0, forward_passes=ACTION_TOKENS, threshold=0.0, fused_metric=float("nan"),
            timings_ms=watch.timings_ms,
        )
