# SPDX-License-Identifier: Apache-2.0
"""Losses of the embedded policy: soft cross-entropy over bins, and auxiliary targets that teach the vision tower."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_sd_ros.policy.actions import BINS
from vla_sd_ros.policy.model import DraftHead
from vla_sd_ros.training.data import Batch

SIGMA = 2.5  # [bins], width of the soft target: neighbouring bins are nearly right
WEIGHTS = (1.0, 1.0, 1.0, 0.4, 0.4, 0.4, 1.5)  # x, y, z, roll, pitch, yaw, gripper
COARSE, FINE = 0.1, 0.02  # [m], the two scales of the auxiliary distances
GEOMETRY = 16  # numbers that tell where things are


def action_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Mean over the batch of the weighted cross-entropies of logits (B, 7, 256); the gripper's target is hard."""
    log_probabilities = F.log_softmax(logits, dim=-1)
    distance = torch.arange(BINS) - batch.positions[:, :6, None]
    soft = F.softmax(-0.5 * (distance / SIGMA) ** 2, dim=-1)
    # the soft target's own entropy is subtracted, so that a perfect prediction costs nothing
    entropy = torch.special.entr(soft).sum(-1)
    motion = -(soft * log_probabilities[:, :6]).sum(-1) - entropy
    gripper = -log_probabilities[:, 6].gather(1, batch.bins[:, 6:])
    return (torch.cat((motion, gripper), dim=1) * torch.tensor(WEIGHTS)).sum(1).mean()


class AuxiliaryHead(DraftHead):
    """The draft head, which also tells where things are while it is trained."""

    def __init__(self, width: int, text_width: int):
        super().__init__(width, text_width)
        self.geometry = nn.Linear(self.HIDDEN, GEOMETRY)

    def forward(self, features: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]  # more than a draft
        """(B, GEOMETRY) geometric predictions and (B, 7, 256) action logits; arguments as in DraftHead.gather()."""
        read = self.read(self.gather(features, text))
        return self.geometry(read), self.fc2(read).unflatten(1, (7, BINS))

    def draft_head(self) -> dict[str, Tensor]:
        """The weights of the draft head alone."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("geometry")}


class Guide(nn.Module):
    """What only training has, to teach where the things are that a sentence names.

    In the vision tower by a query for each job, which needs no language: that cells tell things apart is learnt soon. In the
    language model by where all of its layers say in metres that they are. (That two of its heads look at them is taught with
    nothing beside the model: pointing_loss.)
    """

    def __init__(self, jobs: int, width: int, hidden: int):
        super().__init__()
        self.named = nn.Embedding(jobs, 2 * width)
        self.located = nn.Linear(hidden, GEOMETRY)

    def cells(self, jobs: Tensor, features: Tensor) -> Tensor:
        """Scores (B, 1, 2, cells) of a job's (B,) grasp and place in the cells' features (B, cells, width)."""
        queries = self.named(jobs).unflatten(1, (1, 2, -1))
        return queries @ features[:, None].transpose(2, 3) / features.shape[-1] ** 0.5


def auxiliary_loss(geometry: Tensor, batch: Batch) -> Tensor:
    """Of the predictions (B, GEOMETRY): distances to the grasp and the place at two scales, position of the gripper, object held."""
    distances = torch.cat((batch.to_grasp, batch.to_place), dim=1)
    middle = batch.ee.new_tensor([0.55, 0, 0.15])
    targets = torch.cat((distances / COARSE, torch.tanh(distances / FINE), (batch.ee - middle) / COARSE), 1)
    held = F.binary_cross_entropy_with_logits(geometry[:, 15], batch.held)
    return F.smooth_l1_loss(geometry[:, :15], targets, beta=0.1) * 4.0 + 0.5 * held


def pointing_loss(scores: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy of scores (B, n, 2, cells) of n askers each, of cells row by row: the first one of two looks at the cell of
    the grasp of the object that is named, the second one at that of the place."""
    askers, side = scores.shape[1], math.isqrt(scores.shape[3])
    at = torch.stack((batch.grasp_at, batch.place_at), dim=1)
    column, row = (at * side).floor().clamp(0, side - 1).long().unbind(-1)
    cell = (row * side + column)[:, None].expand(-1, askers, -1)
    return F.cross_entropy(scores.flatten(0, 2), cell.flatten())
