# SPDX-License-Identifier: Apache-2.0
"""A node with parameters and a robot's node, for the tests of arms/; see bench_of_arms.py."""

import sys
from pathlib import Path

import pytest

for folder in ("", "ros", "arms"):
    sys.path.insert(0, str(Path(__file__).parents[1] / folder))

from bench_of_arms import Bench  # noqa: E402


@pytest.fixture
def bench():
    from processes import Domain

    domain = Domain()
    bench = Bench(domain)
    yield bench
    bench.close()
    domain.release()


@pytest.fixture(scope="session")
def standins():
    """Interface packages that have no wheels, on the paths of this process and of those that it starts."""
    import standins

    standins.use()
