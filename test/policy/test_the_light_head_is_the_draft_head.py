# SPDX-License-Identifier: Apache-2.0
"""On a CPU the draft head runs in numpy: its probabilities are torch's but for rounding, whatever is asked."""

import numpy as np
import pytest
import torch

from vla_sd_ros.policy.light_head import LightHead
from vla_sd_ros.policy.model import DraftHead


@pytest.mark.parametrize("looks_ahead", [False, True])
def test_the_probabilities_are_torchs(looks_ahead):
    torch.manual_seed(0)
    head = DraftHead(48, 32, looks_ahead).eval().requires_grad_(False)
    head.fc2.weight *= 20  # so that there is something to tell apart
    light, rng = LightHead(head), np.random.default_rng(0)
    for _ in range(5):  # another instruction each time
        cells, text = rng.normal(size=(30, 48)).astype(np.float32), rng.normal(size=32).astype(np.float32)
        executed = rng.integers(0, 256, (2, 7))
        inputs = torch.from_numpy(cells)[None], torch.from_numpy(text)[None]
        assert light.now(cells, text) == pytest.approx(head(*inputs)[0].softmax(-1).numpy(), abs=1e-5)
        if looks_ahead:
            for by in range(1, DraftHead.REACH + 1):
                ahead = head.ahead(head.gather(*inputs), torch.from_numpy(executed)[None].float(), torch.tensor([by]))
                assert light.ahead(cells, text, executed, by) == pytest.approx(ahead[0].softmax(-1).numpy(), abs=1e-5)


def test_cells_of_nan_stay_nan():
    light = LightHead(DraftHead(48, 32).requires_grad_(False))
    assert np.isnan(light.now(np.full((30, 48), np.nan, np.float32), np.zeros(32, np.float32))).all()
