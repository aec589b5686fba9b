# SPDX-License-Identifier: Apache-2.0
"""Of a checkpoint's statistics each entry stands for itself; a checkpoint may lie at home, and its units are checked."""

import json

import pytest

from vla_sd_ros import policy

GOOD = {"action": {"q01": [-0.02] * 6 + [0.0], "q99": [0.02] * 6 + [1.0], "mask": [True] * 6 + [False]}}
ROBOSUITE = {"action": {"q01": [-0.9375] * 3 + [-0.3] * 3 + [0.0], "q99": [0.9375] * 3 + [0.3] * 3 + [1.0]}}


@pytest.fixture
def checkpoint(tmp_path):
    policy.write_random(tmp_path / "c")
    return tmp_path / "c"


def write(checkpoint, **entries) -> None:
    (checkpoint / "dataset_statistics.json").write_text(json.dumps(entries))


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ({"action": {"q01": [0.0] * 14, "q99": [1.0] * 14}}, "under 'bad' are not of seven numbers"),
        ({"action": {"q01": [float("nan")] * 7, "q99": [1.0] * 7}}, "under 'bad' is not finite"),
        ({"proprio": {}}, "no q01 and q99 of seven numbers under 'bad'"),
        (None, "no q01 and q99 of seven numbers under 'bad'"),
        ({"action": {"q01": [1.0] * 7, "q99": [0.0] * 7}}, "q01 under 'bad' lies above q99 in x"),
    ],
)
def test_the_others_load_and_the_bad_one_says_what_it_is(checkpoint, bad, sentence):
    write(checkpoint, good=GOOD, bad=bad)
    vla = policy.load(checkpoint, unnorm_key="good")
    assert vla.unnorm_keys == ["good"] and sentence in vla.damaged_statistics[0]
    with pytest.raises(ValueError, match=sentence):
        vla.key_of("bad")
    with pytest.raises(policy.CheckpointError, match=sentence):
        policy.load(checkpoint, unnorm_key="bad")
    with pytest.raises(policy.CheckpointError, match="set policy.unnorm_key"):  # which of the two is not said
        policy.load(checkpoint)


def test_other_units_are_refused_for_each_key_unless_they_are_allowed(checkpoint):
    write(checkpoint, good=GOOD, other=ROBOSUITE)
    with pytest.raises(policy.CheckpointError, match="'other' hold steps of 0.938 m in x, more than 0.25 m"):
        policy.load(checkpoint, unnorm_key="other")
    with pytest.raises(ValueError, match="'other' hold steps of 0.938 m in x"):
        policy.load(checkpoint, unnorm_key="good").key_of("other")
    assert policy.load(checkpoint, unnorm_key="other", largest_step=(1.0, 1.25)).unnorm_key == "other"


@pytest.mark.parametrize("name", ["~/c", "~"])
def test_a_checkpoint_at_home_is_found(checkpoint, name, monkeypatch):
    monkeypatch.setenv("HOME", str(checkpoint if name == "~" else checkpoint.parent))
    assert policy.load(name).unnorm_keys == ["random"]
