# SPDX-License-Identifier: Apache-2.0
"""Over the network a decoder knows what it knows locally: the measured motion, and which actions were executed."""

import numpy as np
import pytest
from served import INSTRUCTION, Local, images, served_here

from vla_sd_ros.kinematics.pose import Pose
from vla_sd_ros.serving.remote import RemotePolicy

# From the second step on this decoder's action is what the filter makes of the measured motion.
SETTINGS = {"prefill_sources": ["kalman"], "kalman_observe": "measured", "relaxed_radius": 255.0}


@pytest.fixture(scope="module")
def following(checkpoint):
    return Local(checkpoint, "prefill_relaxed", SETTINGS)


@pytest.fixture
def remote(following):
    with served_here(following) as port:
        remote = RemotePolicy(f"ws://127.0.0.1:{port}", 30.0)
        yield remote
        remote.close()


def poses(count: int, speed: float) -> list[Pose]:
    return [Pose(np.array([0.4 + speed * step, 0.0, 0.2]), np.eye(3)) for step in range(count)]


def test_the_measured_motion_is_used(remote, following):
    answers = {}
    for speed in (0.0, 0.01):
        progress, answers[speed] = remote.begin(), []
        for image, pose in zip(images(4), poses(4, speed)):
            progress.see(pose)
            decision = remote.decide(image, INSTRUCTION, progress)
            progress.record(decision.bins)
            answers[speed].append(decision.action)
        np.testing.assert_array_equal(answers[speed], following.actions(images(4), poses=poses(4, speed)))
    assert np.ptp([answers[speed][3][0] for speed in answers]) > 0.004


def test_actions_that_were_not_executed_are_forgotten(remote, following):
    seen, at = images(3), poses(3, 0.01)
    progress = remote.begin()
    for image, pose, executed in [
        (seen[2], at[0], False),
        (seen[0], at[0], True),
        (seen[2], at[1], False),
        (seen[1], at[1], True),
        (seen[2], at[2], True),
    ]:
        progress.see(pose)
        decision = remote.decide(image, INSTRUCTION, progress)
        if executed:
            progress.record(decision.bins)
    np.testing.assert_array_equal(decision.action, following.actions(seen, poses=at)[2])


def test_the_decision_tells_what_the_decoder_did(remote, following):
    progress = remote.begin()
    for image in images(2):
        decision = remote.decide(image, INSTRUCTION, progress)
        progress.record(decision.bins)
    np.testing.assert_array_equal(decision.action, following.vla.action(decision.bins))
    assert (decision.decoder, decision.path, decision.forward_passes, decision.accepted_length) == (
        "prefill_relaxed",
        "prefill",
        1,
        6,
    )
    assert decision.threshold == 255.0 and np.isnan(decision.fused_metric)
    assert decision.timings_ms["total"] > decision.timings_ms["prefill"] > 0
