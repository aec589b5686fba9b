# SPDX-License-Identifier: Apache-2.0
"""The one reader of recordings: our own episodes, bags, LeRobot and RLDS datasets all end as plain Episodes.

No ROS and no torch in here. To read another kind, write a Source beside the others and name it in reader.KINDS.
"""

from vla_sd_ros.recordings.episode import Episode, Options, RecordingError, Skipped
from vla_sd_ros.recordings.inventory import Inventory
from vla_sd_ros.recordings.reader import Recordings

__all__ = ["Episode", "Inventory", "Options", "RecordingError", "Recordings", "Skipped"]
