# SPDX-License-Identifier: Apache-2.0
"""The folders whose helpers the tests of the console use."""

import sys
from pathlib import Path

for folder in ("console", "ros", "serving"):
    sys.path.insert(0, str(Path(__file__).parents[1] / folder))
