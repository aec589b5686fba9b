# SPDX-License-Identifier: Apache-2.0
"""Plain greedy decoding, one token a pass: the baseline that every other decoder is measured against."""
import numpy as np

from vla_sd_ros.decoding.decision import Decision, Stopwatch
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
        logits, _ = self._vla.prefill(prompt)
        bins = [int(logits[-1].argmax())]
        watch.lap("prefill")
        while len(bins) < ACTION_TOKENS:
            logits, _ = self._vla.extend(bins[-1:])
            bins.append(int(logits[-1].argmax()))
        watch.lap("decode")
        return Decision(
            bins=np.array(bins), action=self._vla.action(np.array(bins)), decoder=self.name, path=self.name,
            accepted_length=0, forward_passes=ACTION_TOKENS, threshold=0.0, fused_metric=float("nan"),
            timings_ms=watch.timings_ms,
        )
