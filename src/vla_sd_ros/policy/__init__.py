# SPDX-License-Identifier: Apache-2.0
"""The vision-language-action model: image and instruction in, logits over action tokens out. No ROS in here."""

from vla_sd_ros.checkpoint_places import CheckpointError, shipped
from vla_sd_ros.policy.checkpoint import fingerprint, load, write_random
from vla_sd_ros.policy.preprocessing import ImageSettings

__all__ = ["CheckpointError", "ImageSettings", "fingerprint", "load", "shipped", "write_random"]
