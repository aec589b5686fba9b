# SPDX-License-Identifier: Apache-2.0
"""vla-sd calibrate finds what the observations were made with, and writes a file that a decoder's settings can be read from."""
import numpy as np
import pytest

from vla_sd_ros import policy
from vla_sd_ros.cli import main
from vla_sd_ros.decoding.history import History
from vla_sd_ros.decoding.parameter_file import read_settings
from vla_sd_ros.training import calibrate


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(0)


def test_decays_are_those_of_the_actions(rng):
    truth = np.array([0.9, 0.7, 0.5, 0.3, 1.0, 0.0])
    actions = [np.zeros(7)]
    for _ in range(4000):
        actions.append(np.append(truth * actions[-1][:6] + rng.normal(size=6) * 0.01, 1.0))
    begins = np.zeros(len(actions), dtype=bool)
    begins[0] = True
    assert calibrate.decays(np.array(actions), begins) == pytest.approx(truth, abs=0.05)


def test_pairs_across_episodes_and_gripper_events_do_not_count():
    actions = np.array([[0.5] * 6 + [1], [0.25] * 6 + [1], [1.0] * 6 + [1], [0.5] * 6 + [1], [-9.0] * 6 + [-1]])
    begins = np.array([True, False, True, False, False])
    assert calibrate.decays(actions, begins) == pytest.approx([0.5] * 6)


def test_the_skip_threshold_is_the_lowest_one_that_keeps_its_precision(rng):
    score = rng.uniform(0, 1, 5000)
    accepted = rng.uniform(0, 1, 5000) < np.where(score > 0.6, 0.97, 0.3)
    threshold = calibrate.skip_threshold(score, accepted, 0.9)
    assert accepted[score >= threshold].mean() >= 0.89
    assert 0.5 < threshold < 0.61
    assert calibrate.skip_threshold(score, np.zeros(5000, dtype=bool), 0.9) == 1.1


def test_the_boundary_parts_what_was_accepted_from_what_was_not(rng):
    values = np.concatenate([rng.uniform(0.0, 0.4, 500), rng.uniform(0.4, 1.0, 500), [np.nan] * 3])
    accepted = np.concatenate([np.zeros(500, dtype=bool), np.ones(500, dtype=bool), [True] * 3])
    assert calibrate.boundary(values, accepted) == pytest.approx(0.4, abs=0.05)


def test_the_file_is_read_back_as_settings(tmp_path, rng, capsys):
    policy.write_random(tmp_path / "policy")
    vla = policy.load(tmp_path / "policy")
    history = History(vla.statistics)
    for _ in range(30):
        history.record(rng.integers(0, 256, 7))
    seen = tmp_path / "seen" / "episode.npz"
    seen.parent.mkdir()
    np.savez(
        seen, images=rng.integers(0, 256, (30, 32, 32, 3), np.uint8), bins=np.array(history.bins),
        instruction="pick up the milk and place it in the basket", positions=rng.normal(size=(30, 3)).cumsum(0) * 0.01,
        rotations=np.broadcast_to(np.eye(3), (30, 3, 3)),
    )
    output = tmp_path / "decoder.yaml"
    common = ["calibrate", "--checkpoint", str(tmp_path / "policy"), "--output", str(output)]
    assert main([*common, "--observations", str(seen.parent)]) == 0
    settings = read_settings(str(output))  # raises for a value out of range
    assert {"kalman_decay", "composite", "metric_radius", "metric_length", "skip_confidence"} <= settings.keys()
    assert main([*common, "--observations", str(tmp_path / "nothing")]) == 2
    assert "vla-sd bench libero --record" in capsys.readouterr().err
