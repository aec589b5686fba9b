# SPDX-License-Identifier: Apache-2.0
"""The trajectory database: what demonstrations did where the camera saw something similar. No ROS in here.

After HeiSD (arXiv 2603.17573): one vector for each step of each demonstration, one partition for each instruction.
"""
from vla_sd_ros.retrieval.database import (
    DatabaseError,
    DatabaseUnavailable,
    Entries,
    Neighbours,
    Origin,
    TrajectoryDatabase,
)

__all__ = ["DatabaseError", "DatabaseUnavailable", "Entries", "Neighbours", "Origin", "TrajectoryDatabase"]
