# SPDX-License-Identifier: Apache-2.0
"""What vla_node's camera shows, as JPEGs for pages."""

import math
import time
from typing import Any

import cv2
import numpy as np
import simplejpeg
from sensor_msgs.msg import CompressedImage, Image

from vla_sd_ros.messages.images import compressed_to_rgb, to_rgb
from vla_sd_ros.nodes.matching import MatchedSubscription
from vla_sd_ros.nodes.polling import PolledOnly

SILENT = 2.0  # s without an image
LARGEST_SIDE = 640  # pixels, the longer side of the picture that pages get
PIXELS = {Image: to_rgb, CompressedImage: compressed_to_rgb}
TYPES = {f"sensor_msgs/msg/{kind.__name__}": kind for kind in PIXELS}


class Camera:
    """Everything but `picture` is for the node's own thread. picture: a JPEG and its number; 0 before the first."""

    def __init__(self, node: Any):
        self._node = node
        self._subscription: MatchedSubscription | None = None
        self._kind: type = Image
        self._heard_at, self._problem = -math.inf, ""
        self.picture: tuple[int, bytes] = (0, b"")

    def follow(self, topic: str, kind: type) -> None:
        """Take the images of this topic from now on. kind: a message of TYPES."""
        if self._subscription and self._subscription.topic == topic:
            return
        if self._subscription:
            self._subscription.close()
        self._subscription = MatchedSubscription(self._node, kind, topic, callback_group=PolledOnly())
        self._kind = kind

    def look(self) -> None:
        """See who publishes the images."""
        if self._subscription:
            self._subscription.look()

    def take(self) -> None:
        """Make a picture of the newest image, where one has come since the last call."""
        taken = None
        while self._subscription and (newer := self._subscription.take()):
            taken = newer
        if not taken:
            return
        self._heard_at = time.monotonic()
        try:
            self.picture, self._problem = (self.picture[0] + 1, _jpeg(PIXELS[self._kind](taken[0]))), ""
        except ValueError as error:
            self._problem = str(error)

    def state(self, watched: bool) -> dict:
        """Whether images come, of which topic, and why not. watched: somebody calls `look` and `take`."""
        there = time.monotonic() - self._heard_at < SILENT
        silent = self._subscription.why_silent() if self._subscription and watched else ""
        return {
            "there": there,
            "topic": self._subscription.topic if self._subscription else "",
            "problem": self._problem or ("" if there else silent or "no image comes"),
        }


def _jpeg(pixels: np.ndarray) -> bytes:
    """Pixels, uint8 (height, width, 3), as a JPEG of at most LARGEST_SIDE on a side."""
    shrink = LARGEST_SIDE / max(pixels.shape[:2])
    if shrink < 1.0:
        pixels = cv2.resize(pixels, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=85)
