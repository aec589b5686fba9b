# SPDX-License-Identifier: Apache-2.0
"""The trajectory database: what demonstrations did where the camera saw something similar. No ROS in here.

After HeiSD (arXiv 2603.17573): one vector for each step of each demonstration, one partition for each instruction.
"""

import os
from pathlib import Path

from vla_sd_ros.inputs import expanded
from vla_sd_ros.retrieval.database import DatabaseError, DatabaseUnavailable, Entries, Neighbours, Origin, TrajectoryDatabase

__all__ = ["DatabaseError", "DatabaseUnavailable", "Entries", "Neighbours", "Origin", "TrajectoryDatabase", "open_database"]


def open_database(location: str | Path, feature_size: int, fingerprint: str):
    """What answers query: a directory of `vla-sd build-db`, or a Qdrant server by its URL (key: QDRANT_API_KEY).

    feature_size, fingerprint: those of the policy that will ask (policy.fingerprint). Raises DatabaseError where the
    database does not fit it, DatabaseUnavailable where the server does not answer.
    """
    if "://" not in str(location):
        return TrajectoryDatabase.load(expanded(location), feature_size, fingerprint)
    from vla_sd_ros.retrieval.qdrant import QdrantDatabase

    server = QdrantDatabase(location, fingerprint, api_key=os.environ.get("QDRANT_API_KEY"))
    server.verify(feature_size)
    return server
