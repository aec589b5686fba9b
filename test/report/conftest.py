# SPDX-License-Identifier: Apache-2.0
"""A small episode, and an empty one."""

import pytest
from recordings import Recording


@pytest.fixture
def run_folder(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def episode_folder(run_folder):
    """Two seconds at 5 Hz: ten images, eight steps, a straight path, success at 1.9 s."""
    run_folder.mkdir()
    folder = run_folder / "episode"
    recording = Recording(folder)
    recording.success(0.0, 1)
    recording.add("gripper_command", 0.0, data=1.0)
    for i in range(20):
        recording.pose("target_pose", i * 0.1, 0.4 + 0.01 * i, 0.0, 0.3)
        recording.pose("measured_pose", i * 0.1 + 0.001, 0.4 + 0.01 * i - 0.005, 0.0, 0.3)
        if i % 2 == 0:
            recording.image(i * 0.1 + 0.002, 10 * i)
            if i >= 4:
                recording.step(i * 0.1 + 0.002, i // 2 - 2, total_ms=20.0 + i)
    recording.add("gripper_command", 1.0, data=0.0)
    recording.success(1.9, 2)
    recording.writer.close()
    return folder


@pytest.fixture
def recording(tmp_path):
    """An empty recording, closed by the test."""
    return Recording(tmp_path / "episode")
