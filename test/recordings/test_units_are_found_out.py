# SPDX-License-Identifier: Apache-2.0
"""Units of a data set's actions are told by their size, their rate by their stamps, before anything long begins."""

import numpy as np
import pytest
from demonstration_files import write

from vla_sd_ros.recordings import Inventory, Options, RecordingError, Recordings
from vla_sd_ros.recordings.units import whole_objection

STEPS = 400
BRIDGE = np.array(
    [
        [-0.0287, -0.0417, -0.0261, -0.0809, -0.0929, -0.2072, 0.0],  # bridge_orig's 1st and 99th percentile
        [0.0283, 0.0409, 0.0402, 0.0819, 0.0779, 0.2038, 1.0],
    ]
)


def deltas(rng):
    """Steps (STEPS, 7) of the size of bridge_orig's."""
    actions = rng.normal(size=(STEPS, 7)) * np.append(BRIDGE[1, :6] / 2.33, 1.0)
    actions[:, 6] = rng.integers(0, 2, STEPS)
    return actions


def joints(rng):
    """Positions of a WidowX's joints [rad] on the way, its first six, and the gripper."""
    home = np.array([0.0, -1.0, 0.9, 0.0, 1.2, 0.0])
    return np.column_stack([home + rng.normal(size=(STEPS, 6)).cumsum(0) * 0.005, rng.integers(0, 2, STEPS)])


def poses(rng):
    """Targets of the end effector in the base frame [m, rad]."""
    targets = np.array([0.3, 0.0, 0.15, 0.0, 0.3, 0.0]) + 0.02 * rng.normal(size=(STEPS, 6))
    return np.column_stack([targets, rng.integers(0, 2, STEPS)])


def robosuite(rng):
    """A joystick's -0.9375 to 0.9375; gripper -1 open, 1 closed."""
    motion = np.clip(0.5 * rng.normal(size=(STEPS, 6)), -0.9375, 0.9375) * [1, 1, 1, 0.2, 0.2, 0.2]
    return np.column_stack([motion, 2.0 * rng.integers(0, 2, STEPS) - 1.0])


def recorded(folder, actions, **changes):
    """Ten episodes of these actions."""
    for i, part in enumerate(np.split(actions, 10)):
        write(folder / f"episode{i:04d}.npz", i, images=np.zeros((len(part), 4, 4, 3), np.uint8), actions=part, **changes)
    return Recordings([folder])


def test_steps_in_metres_and_radians_pass(tmp_path):
    inventory = Inventory.of(recorded(tmp_path, deltas(np.random.default_rng(0))))
    assert inventory.episodes == 10 and inventory.actions.shape == (STEPS, 7) and inventory.sentences == {"pick up the milk": STEPS}


@pytest.mark.parametrize(
    "make, said",
    [
        (joints, r"rest at .* they are positions, of joints or of the end effector, .*--action"),
        (poses, r"rest at .* they are positions, of joints or of the end effector"),
        (robosuite, r"hold steps of 0.9\d m in . as a matter of course, .*--action-scale .robosuite's units: 0.05 0.5"),
    ],
)
def test_positions_and_normalised_actions_are_refused_with_what_mends_them(tmp_path, make, said):
    with pytest.raises(RecordingError, match=f"the actions of .* {said}"):
        Inventory.of(recorded(tmp_path, make(np.random.default_rng(0))))


def test_grippers_of_other_values_are_refused_as_a_whole(tmp_path):
    actions = deltas(np.random.default_rng(0))
    actions[:, 6] = 1.0 - 2.0 * actions[:, 6]
    words = f"the demonstrations in {tmp_path} hold gripper values of -1 to 1, .*--gripper CLOSED OPEN"
    with pytest.raises(RecordingError, match=words):
        Inventory.of(recorded(tmp_path, actions))


def test_the_scale_makes_robosuites_units_metres():
    from vla_sd_ros.recordings.units import objection, physical

    actions = robosuite(np.random.default_rng(0))
    scaled = physical(actions, Options(action_scale=(0.05, 0.5), gripper=(1.0, -1.0)))
    assert objection(scaled) == whole_objection(scaled) == ""
    np.testing.assert_allclose(scaled[:, :3], 0.05 * actions[:, :3])
    np.testing.assert_array_equal(scaled[:, 6], actions[:, 6] < 0)


def test_one_wild_episode_is_skipped_and_accuses_no_other(tmp_path):
    actions = deltas(np.random.default_rng(0))
    actions[5, 1] = 7.0
    recordings = recorded(tmp_path, actions)
    assert Inventory.of(recordings).episodes == 9
    (sentence,) = recordings.told()
    assert sentence.startswith("1 skipped: ") and "episode0000.npz moves by 7.00 and turns by" in sentence


def test_recordings_of_another_rate_are_refused_with_the_stride_that_mends_it(tmp_path):
    inventory = Inventory.of(recorded(tmp_path, deltas(np.random.default_rng(0))))
    inventory.check_rate(0.2)
    inventory.check_rate(0.17)
    said = "10 of 10 episodes have a step each 0.2 s, but the policy decides each 0.4 s.*--stride 2, or --control-period 0.2"
    with pytest.raises(RecordingError, match=said):
        inventory.check_rate(0.4)
    with pytest.raises(RecordingError, match="give --control-period 0.2 if"):
        inventory.check_rate(0.1)


def test_the_table_has_the_quantiles_of_both_and_says_what_differs(tmp_path):
    actions = deltas(np.random.default_rng(0))
    actions[:, 2] *= 5.0
    text = Inventory.of(recorded(tmp_path, actions)).table("bridge_orig", *BRIDGE)
    lines = text.splitlines()
    assert lines[0].split() == ["x", "[m]", "y", "[m]", "z", "[m]", "roll", "[rad]", "pitch", "[rad]", "yaw", "[rad]", "gripper"]
    values = [list(map(float, line.split("%")[1].split())) for line in lines[1:6]]
    np.testing.assert_allclose(values[:3], np.quantile(actions.astype(np.float32), (0.01, 0.5, 0.99), axis=0), atol=1e-4)
    np.testing.assert_allclose(values[3:], BRIDGE, atol=1e-4)
    assert lines[6].startswith("z: the recordings' steps are ") and lines[7:] == ["10 episodes with a step each 0.2 s"]


def test_where_nothing_can_be_used_one_sentence_says_why(tmp_path):
    recordings = recorded(tmp_path, deltas(np.random.default_rng(0)), success=False)
    words = "none of the recordings can be used: 10 skipped: .*, ...: each is not known to have succeeded"
    with pytest.raises(RecordingError, match=words):
        Inventory.of(recordings)
