# SPDX-License-Identifier: Apache-2.0
"""Property tests have no deadline: how long an example takes says more about the machine than about the code.

They draw the same examples at each run of one state of the code, so that a failure is of a change, not of luck; with
--hypothesis-profile nightly they draw others each time, and fifty times as many.
"""

import signal
import subprocess

import pytest
from hypothesis import settings

# A shell ignores SIGINT in what it runs in the background, and so would every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


settings.register_profile("default", deadline=None, derandomize=True)
settings.register_profile("nightly", deadline=None, max_examples=5000, print_blob=True)
settings.load_profile("default")


@pytest.fixture
def small_disk(tmp_path):
    """8 MB that fill up."""
    mount = tmp_path / "disk"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(mount)], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield mount
    subprocess.run(["umount", "--lazy", str(mount)], check=True)
