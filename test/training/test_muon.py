# SPDX-License-Identifier: Apache-2.0
"""Our Muon takes the steps of torch.optim.Muon, up to the bf16 of that one."""

import torch

from vla_sd_ros.training.muon import Muon, orthogonalise


def test_singular_values_come_near_one():
    torch.manual_seed(0)
    for shape in ((16, 48), (48, 16), (32, 32)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
        assert values.min() > 0.3 and values.max() < 1.3


def test_the_steps_are_those_of_torch():
    torch.manual_seed(0)
    start = torch.randn(24, 40)
    own, reference = (torch.nn.Parameter(start.clone()) for _ in range(2))
    ours = Muon([own], lr=0.02)
    theirs = torch.optim.Muon([reference], lr=0.02, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        gradient = torch.randn(24, 40)
        own.grad, reference.grad = gradient.clone(), gradient.clone()
        ours.step()
        theirs.step()
    moved, expected = own.data - start, reference.data - start
    assert torch.nn.functional.cosine_similarity(moved.flatten(), expected.flatten(), dim=0) > 0.999
    assert abs(moved.norm() / expected.norm() - 1) < 0.02
