# SPDX-License-Identifier: Apache-2.0
"""policy.unnorm_key changes the units of the actions from the next step on, and only to statistics that there are."""

import json
import shutil

import numpy as np
import pytest
from vla import NODE, Vla


@pytest.fixture
def two(checkpoint, tmp_path):
    """A node whose checkpoint has two statistics, `far` with limits twice as wide as `near`, and `other_units`."""
    folder = shutil.copytree(checkpoint, tmp_path / "two")
    path = folder / "dataset_statistics.json"
    (entry,) = json.loads(path.read_text()).values()
    far, other = (
        {"action": entry["action"] | {name: [times * x for x in entry["action"][name]] for name in ("q01", "q99")}}
        for times in (2, 40)
    )
    path.write_text(json.dumps({"near": entry, "far": far, "other_units": other}))
    vla = Vla(folder, tmp_path / "node", **{"policy.unnorm_key": "near"})
    try:
        vla.wait_until_active()
        yield vla
    finally:
        vla.close()


def translation(message) -> np.ndarray:
    return np.array([message.translation.x, message.translation.y, message.translation.z])


def test_the_next_steps_have_the_new_units_and_unknown_keys_are_refused(two):
    two.start_moving(steps=3)
    before = translation(two.motions()[-1][1])
    assert two.ros.set_parameter(NODE, "policy.unnorm_key", "far").successful
    two.ros.wait_until(lambda: not np.allclose(translation(two.motions()[-1][1]), before), "a step of the other statistics")
    np.testing.assert_allclose(translation(two.motions()[-1][1]), 2 * before, rtol=1e-9)  # the camera sees the same
    refused = two.ros.set_parameter(NODE, "policy.unnorm_key", "bridge_orig")
    assert not refused.successful and "far, near" in refused.reason
    refused = two.ros.set_parameter(NODE, "policy.unnorm_key", "other_units")
    assert not refused.successful and "must be in metres and radians of one control period" in refused.reason
