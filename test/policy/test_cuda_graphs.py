# SPDX-License-Identifier: Apache-2.0
"""On a GPU, passes replayed from CUDA graphs give what eager passes give, also for another image, length and tree.

test_cuda_graphs_bookkeeping.py shows the same without a GPU, with a stand-in for the graphs.
"""

import numpy as np
import pytest
import torch

from vla_sd_ros import policy
from vla_sd_ros.policy import graphs
from vla_sd_ros.policy.draft import Draft, below, chain

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def passes(vla, seed: int, instruction: str) -> list[torch.Tensor]:
    rng = np.random.default_rng(seed)
    out = [vla.prefill(vla.observe(rng.integers(0, 256, (224, 224, 3), np.uint8), instruction), chain(rng.integers(0, 256, 6)))]
    vla.keep([0, 1])
    tree = Draft(rng.integers(0, 256, 5), np.array([-1, 0, 0, -1, 3]))
    out.append(vla.extend(below(int(rng.integers(256)), tree)))
    vla.keep([0, 4, 5])
    out.append(vla.extend(chain(rng.integers(0, 256, 1))))
    vla.keep([0])
    return [part for one in out for part in (one.logits, one.hidden)]


def test_graphs_and_eager_passes_agree(monkeypatch):
    vla = policy.load("random-tiny-openvla", "cuda", dtype="float32")
    cases = [(0, "pick up the milk"), (1, "pick up the milk"), (2, "put the bowl on the plate"), (0, "pick up the milk")]
    replayed = [passes(vla, *case) for case in cases]
    monkeypatch.setattr(vla, "_run", graphs.eager)
    masked = [passes(vla, *case) for case in cases]
    vla._captured, vla._cache = False, vla.new_cache(None)  # as on a CPU: a causal pass without a mask
    for case, *found in zip(cases, replayed, masked):
        for ours, others, expected in zip(*found, passes(vla, *case), strict=True):
            torch.testing.assert_close(ours, others, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3)
