# SPDX-License-Identifier: Apache-2.0
"""Recordings are read without ROS, torch or TensorFlow, and by what lies below all that uses them."""

import subprocess
import sys

from demonstration_files import write


def test_reading_imports_nothing_of_ros_torch_or_the_rooms_above(tmp_path):
    write(tmp_path / "episode0000.npz", 0)
    code = (
        "import sys; from pathlib import Path; from vla_sd_ros.recordings import Inventory, Recordings\n"
        f"recordings = Recordings([Path({str(tmp_path)!r})]); print(Inventory.of(recordings).episodes, len(list(recordings)))\n"
        "print({name for name in sys.modules if name in ('rclpy', 'torch', 'tensorflow', 'transformers') or\n"
        "       name.startswith('vla_sd_ros.') and name.split('.')[1] not in\n"
        "       ('recordings', 'messages', 'inputs', 'instruction', 'runs')})"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "1 1\nset()\n"
