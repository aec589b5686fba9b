# SPDX-License-Identifier: Apache-2.0
"""Muon (Jordan et al., https://kellerjordan.github.io/posts/muon) for a CPU, shared out over the processes of a training.

torch.optim.Muon orthogonalises in bf16: on a CPU without bf16 arithmetic that alone takes ten times as long as the model.
"""

import torch
import torch.distributed as distributed
from torch import Tensor

from vla_sd_ros.training.loop import multiplies_bf16

COEFFICIENTS, ITERATIONS = (3.4445, -4.775, 2.0315), 5


class Muon(torch.optim.Optimizer):
    """For matrices (m, n); the same on every process, which each orthogonalise a part of them.

    The size of an update is that of AdamW's (Liu et al., "Muon is scalable for LLM training", arXiv 2502.16982, eq. 4).
    """

    def __init__(self, parameters, lr: float, weight_decay: float = 0.05, momentum: float = 0.95):
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # there is no closure to call
        """Update all parameters from their gradients, which must be the same on every process."""
        world = distributed.get_world_size() if distributed.is_initialized() else 1
        rank = distributed.get_rank() if world > 1 else 0
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            updates = [self._update(p, p.grad, group["momentum"], i % world == rank) for i, p in enumerate(parameters)]
            flat = torch.cat([update.flatten() for update in updates])
            if world > 1:
                distributed.all_reduce(flat)
            for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters])):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                size = 0.2 * max(parameter.shape) ** 0.5
                parameter.add_(part.view_as(parameter), alpha=-group["lr"] * size)

    def _update(self, parameter: Tensor, gradient: Tensor, momentum: float, mine: bool) -> Tensor:
        """The orthogonalised momentum, with Nesterov's look ahead; zeros where another process does it."""
        state = self.state[parameter]
        buffer = state.setdefault("momentum", torch.zeros_like(gradient))
        buffer.lerp_(gradient, 1 - momentum)
        return orthogonalise(gradient.lerp(buffer, momentum)) if mine else torch.zeros_like(parameter)


def orthogonalise(matrix: Tensor) -> Tensor:
    """The nearest matrix with singular values near 1, by Newton-Schulz iterations: in bf16 where this CPU multiplies it, which
    is three times as fast and near enough."""
    a, b, c = COEFFICIENTS
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = (x / x.norm().clamp(min=1e-7)).to(torch.bfloat16 if multiplies_bf16() else matrix.dtype)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    x = x.to(matrix.dtype)
    return x.T if matrix.shape[0] > matrix.shape[1] else x
