# SPDX-License-Identifier: Apache-2.0
"""The simulators of the vendors' protocols are in test/ros/vendors.py."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "ros"))
