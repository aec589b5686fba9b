# SPDX-License-Identifier: Apache-2.0
"""Plain greedy decoding, one token a pass: the baseline that every other decoder is measured against."""

import numpy as np

from vla_sd_ros.decoding.decision import Decision, PassRecord, Stopwatch
from vla_sd_ros.policy.draft import chain
from vla_sd_ros.policy.vla import ACTION_TOKENS, Vla

PASSES = (PassRecord("prefill", 0, 0), *[PassRecord("extend", 0, 0)] * (ACTION_TOKENS - 1))


class Autoregressive:
    """decide() runs one prefill and six single-token passes."""

    name = "autoregressive"

    def __init__(self, vla: Vla):
        self._vla = vla

    def decide(self, image: np.ndarray, instruction: str, history=None) -> Decision:
        """The action for image (H, W, 3) uint8 RGB and an instruction; the history makes no difference."""
        watch = Stopwatch(self._vla.synchronise)
        prompt = self._vla.observe(image, instruction)
        watch.lap("vision")
        bins = [int(self._vla.prefill(prompt).greedy()[0])]
        watch.lap("prefill")
        while len(bins) < ACTION_TOKENS:
            bins.append(int(self._vla.extend(chain(bins[-1:])).greedy()[0]))
            self._vla.keep([0])
        watch.lap("decode")
        return Decision(
            bins=np.array(bins),
            action=self._vla.action(np.array(bins)),
            decoder=self.name,
            path=self.name,
            timings_ms=watch.timings_ms,
            passes=PASSES,
        )
