# SPDX-License-Identifier: Apache-2.0
"""What a recording is read as, and what has to be known to read it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vla_sd_ros.inputs import BadInput

UNKNOWN = "is not known to have succeeded: --include-failed takes it too"


class RecordingError(BadInput):
    """A recording that cannot be read; one sentence says what is wrong and what mends it."""


class Damaged(RecordingError):
    """It lies in this one recording: it is skipped, the others are read."""


@dataclass(frozen=True)
class Skipped:
    """What could not be used: name of an episode or a file, and why, as the end of a sentence: "has no instruction"."""

    name: str
    reason: str


@dataclass(frozen=True)
class Episode:
    """One demonstration of one instruction, in the policy's own semantics and at its own rate.

    images: one (H, W, 3) uint8 RGB for each action, what was seen when it was decided; None where it was not recorded. They are
    decoded while they are walked through, each time anew; RecordingError where that fails. actions: (T, 7) float32, deltas
    [m, rad] in base axes, gripper 0 (closed) to 1 (open). instruction: normalised. name: where it comes from. stamps: (T,) of
    the images [s], and period: between two actions [s], None where the recording does not tell. success: None where nobody
    knows.
    """

    images: Iterable[np.ndarray | None]
    actions: np.ndarray
    instruction: str
    name: str
    stamps: np.ndarray | None = None
    period: float | None = None
    success: bool | None = None


class Source(Protocol):
    """One recording or dataset. Can be iterated again."""

    def __iter__(self) -> Iterator[Episode | Skipped]: ...


@dataclass(frozen=True)
class Options:
    """How to read what a recording does not say itself.

    include_failed: also episodes that did not succeed, or of which nobody knows. instruction: of all episodes, "" for what
    the recording says. image_topic: of bags; camera, action: keys of LeRobot and RLDS datasets; "" for the only one.
    stride: frames of a dataset in one step of the policy; the deltas between are composed. rate: frames a second [Hz] of a
    dataset that does not tell it, as RLDS; 0: unknown.
    action_scale: metres and radians in one unit of a dataset's actions. gripper: its values of closed and open.
    """

    include_failed: bool = False
    instruction: str = ""
    image_topic: str = ""
    camera: str = ""
    action: str = "action"
    stride: int = 1
    rate: float = 0.0
    action_scale: tuple[float, float] = (1.0, 1.0)
    gripper: tuple[float, float] = (0.0, 1.0)


class Lazily:
    """Images that are made anew each time they are walked through."""

    def __init__(self, make, *arguments):
        self._make, self._arguments = make, arguments

    def __iter__(self) -> Iterator[np.ndarray | None]:
        return iter(self._make(*self._arguments))


@dataclass(frozen=True)
class Pictures:
    """The images of an episode with so many actions, as Episode has them. Damaged where they are not, when one comes to it."""

    images: Iterable[np.ndarray | None]
    actions: int

    def __iter__(self) -> Iterator[np.ndarray | None]:
        count = 0
        for count, image in enumerate(self.images, 1):
            if count > self.actions:
                continue
            if image is not None and not is_picture(image):
                raise Damaged(
                    f"has an image of shape {np.shape(image)} and type {np.asarray(image).dtype} at step {count - 1}, not "
                    "(height, width, 3) and uint8"
                )
            yield image
        if count != self.actions:
            raise Damaged(f"has {self.actions} actions, but {count} images")


def is_picture(image: np.ndarray) -> bool:
    """Whether it is (H, W, 3) uint8, with something in it."""
    return isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size > 0


@dataclass(frozen=True)
class Encoded:
    """A picture as a file's bytes, in the form of a sensor_msgs/CompressedImage."""

    data: bytes
    format: str = ""
