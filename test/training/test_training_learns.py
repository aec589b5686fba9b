# SPDX-License-Identifier: Apache-2.0
"""The training losses teach what they should: a tiny model learns a toy scene, and padding never leaks between rows."""
import numpy as np
import pytest
import torch

from vla_sd_ros.policy.actions import encode, statistics_of
from vla_sd_ros.policy.config import TextConfig, VisionConfig, VlaConfig
from vla_sd_ros.policy.model import VlaModel
from vla_sd_ros.policy.vla import normalise_pixels
from vla_sd_ros.training.data import Batches, Frames
from vla_sd_ros.training.losses import AuxiliaryHead, action_loss
from vla_sd_ros.training.train import action_logits, compute_losses

IDS = [torch.tensor([1, 5, 6, 4]), torch.tensor([1, 5, 7, 8, 4])]


def tiny() -> VlaModel:
    torch.manual_seed(0)
    return VlaModel(VlaConfig(
        vision=VisionConfig(image_size=32, channels=(8, 16), strides=(4, 2), width=32, layers=1, heads=2),
        text=TextConfig(vocab_size=320, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2),
        projector_width=32, action_end=320,
    ))


def toy_frames() -> Frames:
    """A bright square whose place is the action; the second sentence asks for the opposite."""
    rng = np.random.default_rng(0)
    images = np.zeros((400, 32, 32, 3), np.uint8)
    place, sentence = rng.integers(0, 2, 400), rng.integers(0, 2, 400)
    for image, right in zip(images, place):
        image[8:24, (18 if right else 2) : (30 if right else 14)] = 255
    direction = np.where(place ^ sentence, 0.02, -0.02)
    actions = np.tile(direction[:, None], (1, 7)) * [1, -1, 0.5, 0.1, 0.1, 0.1, 0]
    actions[:, 6] = place
    point = np.column_stack([direction, direction, direction])
    columns = {
        "actions": actions, "ee_positions": np.zeros((400, 3)), "grasp_points": point, "place_points": point,
        "held": place.astype(bool),
    }
    columns = {name: value.astype(np.float32) if value.dtype != bool else value for name, value in columns.items()}
    return Frames(images, columns, sentence, ["first", "second"])


def test_a_toy_scene_is_learnt_with_the_sentence():
    frames, model = toy_frames(), tiny()
    head = AuxiliaryHead(32, 32)
    statistics = statistics_of(frames.columns["actions"])
    batches = Batches(frames, statistics, 32, 0)
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], lr=2e-3)
    for _ in range(150):
        batch = batches.draw()
        loss = compute_losses(model, head, normalise_pixels(batch.images, model.config), batch, IDS, True)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    batch = batches.draw()
    features = model.vision_backbone(normalise_pixels(batch.images, model.config))
    predicted = action_logits(model, features, [IDS[i] for i in batch.instructions], batch.bins).argmax(-1)
    near = (predicted[:, [0, 1, 6]] - batch.bins[:, [0, 1, 6]]).abs() <= 5
    assert near.float().mean() > 0.95


def test_rows_of_a_batch_do_not_see_each_others_padding():
    model = tiny().eval()
    features = torch.randn(2, 16, 32)
    bins = torch.from_numpy(encode(np.random.default_rng(0).uniform(-1, 1, (2, 7))))
    with torch.no_grad():
        together = action_logits(model, features, IDS, bins)
        alone = [action_logits(model, features[i : i + 1], [IDS[i]], bins[i : i + 1])[0] for i in range(2)]
    assert torch.allclose(together, torch.stack(alone), atol=1e-5)


def test_a_perfect_prediction_costs_nothing():
    frames = toy_frames()
    batch = Batches(frames, statistics_of(frames.columns["actions"]), 8, 0).draw()
    distance = torch.arange(256) - batch.positions[:, :, None]
    logits = -0.5 * (distance / 2.5) ** 2
    logits[:, 6] = -1000.0
    logits[torch.arange(8), 6, batch.bins[:, 6]] = 0.0
    assert action_loss(logits, batch).item() == pytest.approx(0.0, abs=1e-4)
