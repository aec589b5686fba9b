# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from vla_sd_ros import policy
from vla_sd_ros.decoding.history import History
from vla_sd_ros.kinematics.pose import Pose


@pytest.fixture(scope="session")
def vla(tmp_path_factory):
    directory = tmp_path_factory.mktemp("checkpoint")
    policy.write_random(directory, seed=3)
    return policy.load(directory)


@pytest.fixture(scope="session")
def observations():
    """Makes n observations: an image, and a history of up to twelve steps before it."""

    def make(vla, n: int, seed: int = 0):
        rng = np.random.default_rng(seed)
        for _ in range(n):
            history = History(vla.statistics)
            position = np.zeros(3)
            for _ in range(rng.integers(0, 12)):
                history.see(Pose(position, np.eye(3)))
                history.record(rng.integers(0, 256, 7))
                position = position + rng.normal(size=3) * 0.01
            history.see(Pose(position, np.eye(3)))
            yield rng.integers(0, 256, (32, 32, 3), np.uint8), history

    return make
