# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from trajectories import ORIGIN, SENTENCES, entries

from vla_sd_ros import policy
from vla_sd_ros.retrieval import TrajectoryDatabase


@pytest.fixture
def database():
    """Two partitions of 40 and 30 entries of size 12, seven episodes."""
    rng = np.random.default_rng(0)
    partitions = {SENTENCES[0]: entries(rng.normal(size=(40, 12)), rng), SENTENCES[1]: entries(rng.normal(size=(30, 12)), rng, 4)}
    return TrajectoryDatabase(partitions, ORIGIN, [f"episode{i}" for i in range(7)])


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Directory of a tiny policy: it sees, but means nothing."""
    directory = tmp_path_factory.mktemp("checkpoints") / "tiny"
    policy.write_random(directory)
    return directory
