# SPDX-License-Identifier: Apache-2.0
"""Copies of recorded episodes in another light, as a camera that stands a little elsewhere would see them.

What a policy says to an image costs a fraction of what it costs to record one, and a draft head has to know what the policy says, not
what was right: so images that nobody recorded teach it as well. A copy is the same for all images of an episode, so that they still
follow each other.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from vla_sd_ros.recordings import Episode
from vla_sd_ros.training.answers import digest

TURN, SCALE, SHIFT = 3.0, (0.96, 1.06), 0.03  # of the picture [degrees], [times], [of its width]
BRIGHTNESS, COLOUR, OFFSET = 0.2, 0.05, 10.0  # of all channels [share], of each [share], [of 255]


@dataclass(frozen=True)
class Varied:
    """Images as Episode has them, each changed as `seed` says while it is walked through."""

    images: Iterable[np.ndarray | None]
    seed: tuple[int, ...]

    def __iter__(self) -> Iterator[np.ndarray | None]:
        rng = np.random.default_rng(self.seed)
        turn, scale, shift = rng.uniform(-TURN, TURN), rng.uniform(*SCALE), rng.uniform(-SHIFT, SHIFT, 2)
        gain = rng.uniform(1 - BRIGHTNESS, 1 + BRIGHTNESS) * rng.uniform(1 - COLOUR, 1 + COLOUR, 3)
        offset = rng.uniform(-OFFSET, OFFSET)
        for image in self.images:
            if image is None:
                yield None
                continue
            height, width = image.shape[:2]
            moved = cv2.getRotationMatrix2D((width / 2, height / 2), turn, scale)
            moved[:, 2] += shift * width
            seen = cv2.warpAffine(image, moved, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            yield np.clip(seen * gain + offset, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Copies:
    """Episodes, and behind them all so many copies of each; can be iterated again as far as they can."""

    episodes: Iterable[Episode]
    count: int

    def __iter__(self) -> Iterator[Episode]:
        yield from self.episodes
        for copy in range(1, self.count + 1):
            for episode in self.episodes:
                yield replace(episode, images=Varied(episode.images, (copy, *digest(episode).encode())))
