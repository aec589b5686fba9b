# SPDX-License-Identifier: Apache-2.0
"""Each step with an image becomes an entry: the policy's own features, its action and the three after it."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_sd_ros import policy
from vla_sd_ros.recordings import Episode
from vla_sd_ros.recordings.reader import usable
from vla_sd_ros.retrieval import DatabaseError, Origin
from vla_sd_ros.retrieval.build import build, following

ORIGIN = Origin("tiny", "00", ())


def episode(rng, steps=6, instruction="pick up the milk", **changes):
    actions = rng.uniform(-0.03, 0.03, (steps, 7))
    actions[:, 6] = rng.integers(0, 2, steps)
    images = [rng.integers(0, 255, (40, 48, 3)).astype(np.uint8) for _ in range(steps)]
    return Episode(**{"images": images, "actions": actions, "instruction": instruction, "name": "some episode"} | changes)


def made(shown, embed, skipped=None):
    """The database of these episodes; skipped: filled with what was left out."""
    skip = ({} if skipped is None else skipped).__setitem__
    return build(usable(shown, skip), embed, ORIGIN, skip)


def mean_colour(image, instruction):
    return image.mean((0, 1)) + 1.0


def test_features_are_those_the_policy_gives_at_run_time(checkpoint):
    vla = policy.load(checkpoint, threads=1)
    rng = np.random.default_rng(0)
    shown = [episode(rng), episode(rng, instruction="open the drawer")]
    database = made(shown, lambda image, said: vla.observe(image, said).features.numpy())
    assert database.feature_size == 32 and len(database) == 12
    for number, one in enumerate(shown):
        for step, image in enumerate(one.images):
            found = database.query(vla.observe(image, one.instruction).features.numpy(), one.instruction, 1)
            assert (found.episodes[0], found.steps[0]) == (number, step)
            assert found.similarity[0] == pytest.approx(1.0, abs=1e-5)
            np.testing.assert_allclose(found.actions[0], one.actions[step], atol=1e-6)


@given(st.integers(1, 12))
def test_upcoming_actions_end_in_stillness(steps):
    actions = np.random.default_rng(steps).normal(size=(steps, 7))
    upcoming = following(actions)
    assert upcoming.shape == (steps, 3, 7)
    for t in range(steps):
        for ahead in range(3):
            if t + 1 + ahead < steps:
                np.testing.assert_array_equal(upcoming[t, ahead], actions[t + 1 + ahead])
            else:
                np.testing.assert_array_equal(upcoming[t, ahead], [0, 0, 0, 0, 0, 0, actions[-1, 6]])


def test_a_step_without_an_image_is_no_entry_but_stays_an_upcoming_action():
    one = episode(np.random.default_rng(0))
    one.images[2] = None
    part = made([one], mean_colour).partitions["pick up the milk"]
    assert part.steps.tolist() == [0, 1, 3, 4, 5]
    np.testing.assert_allclose(part.upcoming[1], one.actions[2:5], atol=1e-7)


def test_episodes_of_one_sentence_share_a_partition():
    rng = np.random.default_rng(0)
    said = ["Pick up the milk.", "open the drawer", "pick up the milk"]
    database = made([episode(rng, 3, sentence) for sentence in said], mean_colour)
    assert {key: len(part) for key, part in database.partitions.items()} == {"pick up the milk": 6, "open the drawer": 3}
    assert database.partitions["pick up the milk"].episodes.tolist() == [0, 0, 0, 2, 2, 2]


def changed(row, column, value):
    actions = np.zeros((6, 7))
    actions[row, column] = value
    return actions


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"actions": np.zeros((6, 8))}, r"shape \(6, 8\)"),
        ({"actions": np.zeros((0, 7))}, r"shape \(0, 7\)"),
        ({"actions": changed(4, 1, np.nan)}, "not finite, at step 4"),
        ({"actions": changed(0, 2, -0.8)}, "--action-scale"),
        ({"actions": changed(0, 5, 4.0)}, "--action-scale"),
        ({"actions": changed(3, 6, -1.0)}, "gripper values of -1 to 0.*--gripper"),
        ({"actions": np.zeros((5, 7))}, "5 actions, but 6 images"),
        ({"instruction": " "}, "no instruction"),
    ],
)
def test_an_episode_that_cannot_be_right_is_named_and_skipped_and_the_others_are_kept(changes, said):
    rng, skipped = np.random.default_rng(0), {}
    shown = [episode(rng), episode(rng, name="bad", **changes), episode(rng)]
    database = made(shown, mean_colour, skipped)
    assert list(skipped) == ["bad"] and re.search(said, skipped["bad"])
    assert len(database) == 12 and database.episode_names == ["some episode"] * 2


def test_no_episode_at_all_is_an_empty_database():
    with pytest.raises(DatabaseError, match="is empty"):
        made([], mean_colour)
