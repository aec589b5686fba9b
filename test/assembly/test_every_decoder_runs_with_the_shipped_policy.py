# SPDX-License-Identifier: Apache-2.0
"""Each decoder that has a name decides with the policy that is taken where none is named, and nothing beside it."""

import cv2
import numpy as np
import pytest

from vla_sd_ros.assembly import Choice, Source, local
from vla_sd_ros.decoding import factory
from vla_sd_ros.doctor import EXAMPLE
from vla_sd_ros.inputs import CHECKPOINT
from vla_sd_ros.kinematics.pose import Pose

INSTRUCTION = "pick up the milk and place it in the basket"


@pytest.fixture(scope="module")
def model():
    return local.load(Source(CHECKPOINT, threads=1))


@pytest.mark.parametrize("name", sorted(factory.RECIPES))
def test_it_decides(model, name):
    image = cv2.cvtColor(cv2.imread(str(EXAMPLE)), cv2.COLOR_BGR2RGB)
    brain = local.LocalBrain(model, Choice(name))
    record = brain.begin()
    for step in range(5):
        record.see(Pose(np.array([0.4, 0.0, 0.3 - 0.01 * step]), np.eye(3)))
        decision = brain.decide(image, INSTRUCTION, record)
        record.record(decision.bins)
        assert decision.action.shape == (7,) and np.isfinite(decision.action).all()
