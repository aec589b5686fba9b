# SPDX-License-Identifier: Apache-2.0
"""The training losses teach what they should: a tiny model learns a toy scene, and padding never leaks between rows."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from vla_sd_ros.policy.actions import encode
from vla_sd_ros.policy.config import TextConfig, VisionConfig, VlaConfig
from vla_sd_ros.policy.model import VlaModel
from vla_sd_ros.policy.preprocessing import normalise_pixels
from vla_sd_ros.policy.prompt import word_tokenizer
from vla_sd_ros.training.data import STRANGE, Batches, Frames
from vla_sd_ros.training.loop import quick_passes
from vla_sd_ros.training.losses import AuxiliaryHead, Guide, action_loss, pointing_loss
from vla_sd_ros.training.train import Trainee, action_states, compute_losses, keep_words

IDS = {"first": torch.tensor([1, 5, 6, 4]), "second": torch.tensor([1, 5, 7, 8, 4])}


def ids(sentence: str) -> torch.Tensor:
    """Tokens of a sentence, whose last word says what it asks for; training puts strange words before it."""
    return IDS[sentence.split()[-1]]


def tiny() -> VlaModel:
    torch.manual_seed(0)
    return VlaModel(
        VlaConfig(
            vision=VisionConfig(image_size=32, channels=(8, 16), strides=(4, 2), width=32, layers=1, heads=2),
            text=TextConfig(vocab_size=320, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2),
            projector_width=32,
            action_end=320,
        )
    )


def toy_frames() -> Frames:
    """A bright square whose place is the action; the second sentence asks for the opposite."""
    rng = np.random.default_rng(0)
    images = np.zeros((400, 32, 32, 3), np.uint8)
    place = rng.integers(0, 2, 400)
    for image, right in zip(images, place):
        image[8:24, (18 if right else 2) : (30 if right else 14)] = 255
    direction = np.where(place, 0.02, -0.02)[:, None] * [1, -1]
    actions = direction[:, :, None] * [1, -1, 0.5, 0.1, 0.1, 0.1, 0]
    actions[:, :, 6] = place[:, None]
    point = np.repeat(direction[:, :, None], 3, axis=2)
    columns = {
        "jobs": np.tile([0, 1], (400, 1)),
        "actions": actions,
        "ee_positions": np.zeros((400, 3)),
        "grasp_points": point,
        "place_points": point,
        "held": place.astype(bool),
    }
    columns = {name: value if value.dtype != float else value.astype(np.float32) for name, value in columns.items()}
    camera = np.array([[100, 0, 0, 16], [0, 100, 0, 16], [0, 0, 0, 1.0]])
    return Frames(images, columns, [["first"], ["second"]], camera)


def test_a_toy_scene_is_learnt_with_the_sentence():
    frames, model = toy_frames(), tiny()
    trainee = Trainee(model, AuxiliaryHead(32, 32), Guide(2, 32, 32), torch.nn.ModuleList(), [])
    batches = Batches(frames, frames.statistics(), 16, 0, questions=2)
    optimizer = torch.optim.AdamW(trainee.live().parameters(), lr=2e-3)
    for _ in range(150):
        batch = batches.draw()
        loss = compute_losses(trainee, normalise_pixels(batch.images, model.config), batch, ids, True)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    batch = batches.draw()
    image = model.image_embeddings(normalise_pixels(batch.images, model.config))
    hidden, _ = action_states(model, image, [[ids(s) for s in asked] for asked in batch.instructions], batch.bins)
    predicted = (hidden @ model.action_weight().T).argmax(-1)
    near = (predicted[:, [0, 1, 6]] - batch.bins[:, [0, 1, 6]]).abs() <= 5
    assert near.float().mean() > 0.95


def test_sentences_about_one_image_do_not_see_each_other():
    """Nor the padding of the shorter ones: each gives what the model says when it is asked that alone."""
    model = tiny().eval()
    image = torch.randn(2, 4, 32)
    bins = torch.from_numpy(encode(np.random.default_rng(0).uniform(-1, 1, (4, 7))))
    asked = [[IDS["first"], IDS["second"]], [IDS["second"], IDS["first"]]]
    with torch.no_grad():
        together = action_states(model, image, asked, bins)
        alone = [action_states(model, image[i : i + 1], [[asked[i][j]]], bins[2 * i + j][None]) for i in range(2) for j in range(2)]
    for ours, theirs in zip(together, zip(*alone)):
        assert torch.allclose(ours, torch.cat(theirs), atol=1e-5)


def test_pointing_is_taught_to_the_attention_that_the_model_has():
    """Scores of the two heads are those of the pass itself, at the prompt's end and at each of the action's tokens."""
    model, image, bins = tiny().eval(), torch.randn(1, 4, 32), torch.full((1, 7), 128)
    with torch.no_grad():
        _, scores = action_states(model, image, [[IDS["first"]]], bins)
        model.language_model.set_attn_implementation("eager")
        ids = torch.cat((IDS["first"][1:], 319 - bins[0, :6]))
        sequence = torch.cat((model.text_embeddings(IDS["first"][None, :1]), image, model.text_embeddings(ids)[None]), dim=1)
        middle = model.language_model.model(inputs_embeds=sequence, output_attentions=True).attentions[1]
    seen = middle[0, :2, -7:, 1:5].transpose(0, 1)  # the rest of the attention is on words
    assert torch.allclose(scores[0].softmax(-1), seen / seen.sum(-1, keepdim=True), atol=1e-5)


def test_other_jobs_are_asked_about_only_where_they_may_be():
    frames = toy_frames()
    frames.columns["jobs"][:, 1] = np.where(frames.columns["held"], -1, 1)
    batch = Batches(frames, frames.statistics(), 64, 0, questions=2).draw()
    for asked, held in zip(batch.instructions, batch.held.view(-1, 2)[:, 0]):
        assert [sentence.split()[-1] for sentence in asked] == (["first", "first"] if held else ["first", "second"])


def test_strange_words_come_into_sentences_and_never_for_what_is_named():
    frames = toy_frames()
    frames.sentences[:] = [["pick up the milk and place it in the basket"]] * 2
    said = [sentence for asked in Batches(frames, frames.statistics(), 200, 0).draw().instructions for sentence in asked]
    assert 0.1 < np.mean([STRANGE in sentence for sentence in said]) < 0.4
    assert all({"milk", "basket"} < set(sentence.split()) for sentence in said)


def test_the_parts_of_a_batch_are_the_batch():
    """Whoever draws which of its images: every process draws all, and reads its own."""
    frames = toy_frames()
    parts = [
        Batches(frames, frames.statistics(), 5, 7, questions=2, own=own).draw() for own in (slice(None), slice(0, 2), slice(2, 5))
    ]
    for field in fields(parts[0]):
        whole, *rest = (getattr(part, field.name) for part in parts)
        joined = rest[0] + rest[1] if isinstance(whole, list) else torch.cat(rest)
        assert whole == joined if isinstance(whole, list) else torch.equal(whole, joined), field.name


def test_the_losses_are_computed_on_the_device_of_the_model():
    """Here on one without numbers, which refuses a tensor of the CPU among its own."""
    frames = toy_frames()
    trainee = Trainee(tiny(), AuxiliaryHead(32, 32), Guide(2, 32, 32), torch.nn.ModuleList(), [])
    trainee.live().to("meta")
    batch = Batches(frames, frames.statistics(), 4, 0, questions=2).draw()
    pixels = normalise_pixels(batch.images, trainee.model.config).to("meta")
    with torch.device("meta"):
        losses = compute_losses(trainee, pixels, batch.to("meta"), lambda sentence: ids(sentence).to("meta"), True)
    losses["loss"].backward()
    assert all(value.device.type == "meta" for value in losses.values())


def test_pointing_is_right_when_the_scores_are_highest_where_the_things_are():
    batch = Batches(toy_frames(), toy_frames().statistics(), 8, 0, questions=2).draw()
    cell = (batch.grasp_at * 4).floor().long()
    scores = torch.zeros(16, 3, 2, 16)
    scores[torch.arange(16), :, :, cell[:, 1] * 4 + cell[:, 0]] = 50.0  # grasp and place are one point there
    assert pointing_loss(scores, batch) < 1e-3 < pointing_loss(-scores, batch)


def test_a_perfect_prediction_costs_nothing():
    frames = toy_frames()
    batch = Batches(frames, frames.statistics(), 8, 0, questions=1).draw()
    distance = torch.arange(256) - batch.positions[:, :, None]
    logits = -0.5 * (distance / 2.5) ** 2
    logits[:, 6] = -1000.0
    logits[torch.arange(8), 6, batch.bins[:, 6]] = 0.0
    assert action_loss(logits, batch).item() == pytest.approx(0.0, abs=1e-4)


def test_a_model_keeps_the_words_it_knows_when_others_come():
    model = tiny()
    before, now = (word_tokenizer(sentences) for sentences in (["pick the milk"], ["grab and pick the soup or the milk"]))
    old = model.text_embeddings(torch.tensor(before.encode("pick the milk").ids)).clone()
    action = model.action_embeddings().clone()
    keep_words(model, before, now)
    assert torch.equal(model.text_embeddings(torch.tensor(now.encode("pick the milk").ids)), old)
    assert before.encode("milk").ids != now.encode("milk").ids and torch.equal(model.action_embeddings(), action)


def test_quick_passes_point_the_gradient_the_same_way():
    frames, model = toy_frames(), tiny()
    trainee = Trainee(model, AuxiliaryHead(32, 32), Guide(2, 32, 32), torch.nn.ModuleList(), [])
    batch = Batches(frames, frames.statistics(), 16, 0, questions=2).draw()

    def gradient() -> torch.Tensor:
        model.zero_grad()
        compute_losses(trainee, normalise_pixels(batch.images, model.config), batch, ids, True)["loss"].backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    exact = gradient()
    with quick_passes():
        quick = gradient()
    assert torch.nn.functional.cosine_similarity(quick, exact, dim=0) > 0.99
    assert abs(quick.norm() / exact.norm() - 1) < 0.03
