# SPDX-License-Identifier: Apache-2.0
"""From the camera's image to the square that the vision tower sees, as each kind of policy was trained and evaluated.

OpenVLA's evaluation prepares images with TensorFlow; the same arithmetic is here in numpy: resizing and cropping are
linear and separable, so each is a pair of matrices, made once for each size of image.
"""

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import lru_cache

import cv2
import numpy as np
import simplejpeg
import torch
from torch import Tensor

from vla_sd_ros.policy.config import VlaConfig

IMAGE_SETTINGS = "image_settings.json"  # of a checkpoint, optional
CROPPED_AREA = 0.9
CUT_OFF = float(np.float32(255.5 / 255.0))  # of a conversion of TensorFlow's, which then cuts off what is not whole
JPEG_QUALITY = 95  # TensorFlow's default, with 4:2:0 chroma subsampling, which is OpenCV's too
_MCU = 16  # rows of pixels that a JPEG with 4:2:0 codes together
_BLOCK = 8  # rows of a matrix that are multiplied at once; fewer waste calls, more multiply zeros


@dataclass(frozen=True)
class ImageSettings:
    """How OpenVLA's images are prepared; each field must be as it was for the data that the policy was trained on.

    jpeg: encode and decode once, as the training data was. centre_crop: keep the middle 90 % of the area, for policies
    trained with random crops. mirror: swap left and right. rotate_180: turn upside down.

    OpenVLA's LIBERO data are robosuite's renderings, whose bottom row comes first, rotated by 180 degrees: mirror images
    of what a camera sees. So images as cameras and ROS have them, top row first, need mirror; robosuite's own, rotate_180.
    """

    jpeg: bool = True
    centre_crop: bool = False
    mirror: bool = False
    rotate_180: bool = False


# Of the data sets of OpenVLA's fine-tunes on LIBERO; those of all others that were published are as cameras give them.
PUBLISHED = {
    f"libero_{suite}{ending}": ImageSettings(centre_crop=True, mirror=True)
    for suite in ("spatial", "object", "goal", "10", "90", "4_task_suites")
    for ending in ("", "_no_noops")
}


def settings_of(data_set: str, table: Mapping[str, ImageSettings]) -> ImageSettings:
    """The settings that fit upright images of a camera, by the data set that a checkpoint of OpenVLA was trained on.

    table: what the checkpoint itself says, by data set; it comes before what was published. Raises ValueError for a data set of
    LIBERO's that neither knows: whether its pictures were turned cannot be guessed.
    """
    found = table.get(data_set) or PUBLISHED.get(data_set)
    if not found and data_set.startswith("libero"):
        raise ValueError(
            f"{data_set!r} is none of the data sets that OpenVLA was published with: say in {IMAGE_SETTINGS} beside "
            f'the weights how its images are prepared, as {{"{data_set}": {{"centre_crop": true, "mirror": true}}}}'
        )
    return found or ImageSettings()


def check_same(one: str, other: str, table: Mapping[str, ImageSettings]) -> None:
    """Raises ValueError where images of one data set are prepared in another way than those of the other."""
    if one != other and settings_of(one, table) != settings_of(other, table):
        raise ValueError(
            f"images of {one!r} are prepared in another way than those of {other!r}: load the checkpoint with that key"
        )


def parse_settings(entries: object) -> dict[str, ImageSettings]:
    """What a checkpoint's image_settings.json holds, by data set. Raises ValueError with one sentence."""
    names = {field.name for field in fields(ImageSettings)}
    table: dict = entries if isinstance(entries, dict) else {"the file": entries}
    for key, entry in table.items():
        if not isinstance(entry, dict) or entry.keys() - names or not all(isinstance(value, bool) for value in entry.values()):
            raise ValueError(f"{key} must be an object with some of {', '.join(sorted(names))}, each true or false")
    return {key: ImageSettings(**entry) for key, entry in table.items()}


def pixels_of(
    image: np.ndarray, config: VlaConfig, settings: ImageSettings | None, device: torch.device, on_device: bool
) -> Tensor:
    """image (H, W, 3) uint8 RGB to normalised pixels (1, 3 or 6, size, size) float on the device.

    settings: None for the embedded policy. on_device: resize OpenVLA's there.
    """
    size = config.vision.image_size
    if settings and on_device:
        pixels = resize_on_device(torch.from_numpy(turn(image, settings)).to(device), size, settings.centre_crop)
    else:
        image = prepare(image, size, settings) if settings else shrink(image, size)
        pixels = torch.from_numpy(image).to(device)
    return normalise_pixels(pixels[None], config)


def normalise_pixels(images: Tensor, config: VlaConfig) -> Tensor:
    """images (B, H, W, 3) uint8 to (B, C, H, W) float; C is 3, or 6 where each of two towers has its normalisation."""
    mean, std = _normalisation(config, images.device)
    return ((images.permute(0, 3, 1, 2).float()[:, None] / 255.0 - mean) / std).flatten(1, 2)


@lru_cache(maxsize=8)
def _normalisation(config: VlaConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation (towers, channels, 1, 1), kept on the device."""
    with torch.inference_mode(False):
        mean, deviation = (torch.tensor(x, device=device) for x in (config.image_mean, config.image_std))
        return mean.view(*(mean.shape or (1, 1)), 1, 1), deviation.view(*(deviation.shape or (1, 1)), 1, 1)


def shrink(image: np.ndarray, size: int) -> np.ndarray:
    """The embedded policy's preparation: image (H, W, 3) uint8 to (size, size, 3), by averaging areas."""
    if image.shape[:2] != (size, size):
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image)


def prepare(image: np.ndarray, size: int, settings: ImageSettings) -> np.ndarray:
    """OpenVLA's preparation: image (H, W, 3) uint8 RGB to (size, size, 3) uint8."""
    return resize(turn(image, settings), size, settings.centre_crop)


def turn(image: np.ndarray, settings: ImageSettings) -> np.ndarray:
    """What comes before resizing, image (H, W, 3) uint8 RGB to the same: turned as the data was, and a JPEG's losses."""
    image = np.ascontiguousarray(image)
    if settings.mirror or settings.rotate_180:
        image = cv2.flip(image, 1 if not settings.rotate_180 else 0 if settings.mirror else -1)
    return jpeg_round_trip(image) if settings.jpeg else image


def resize(image: np.ndarray, size: int, crop: bool) -> np.ndarray:
    """image (H, W, 3) uint8 to (size, size, 3) uint8, and then its middle."""
    height, width = image.shape[:2]
    if (height, width) != (size, size):
        resized = _resample(image, _lanczos3_blocks(height, size), _lanczos3_blocks(width, size))
        # rounds to even and saturates
        image = cv2.add(resized, 0, dtype=cv2.CV_8U)  # type: ignore[call-overload]  # its types know no scalar
    if crop:
        middle = _crop(image)
        middle *= CUT_OFF
        image = np.minimum(middle, 255, out=middle).astype(np.uint8)
    return image


def resize_on_device(image: Tensor, size: int, crop: bool) -> Tensor:
    """The same where image (H, W, 3) uint8 is on a GPU: whole matrices, most of which are zeros, take it no time."""
    height, width = image.shape[:2]
    if (height, width) != (size, size):
        image = _apply(image, *(_on_device(n, size, image.device) for n in (height, width))).round().clamp(0, 255)
    if crop:
        middle = _on_device(None, size, image.device)
        image = (_apply(image, middle, middle) * CUT_OFF).clamp(0, 255)
    return image.to(torch.uint8)


def _apply(image: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    rows = (vertical @ image.float().flatten(1)).unflatten(1, (-1, 3))
    return torch.einsum("xj,yjc->yxc", horizontal, rows)


@lru_cache(maxsize=16)
def _on_device(inputs: int | None, outputs: int, device: torch.device) -> Tensor:
    """lanczos3(inputs, outputs), or for None the matrix of the crop."""
    if inputs is None:
        distances = np.abs(crop_positions(outputs)[:, None] - np.arange(outputs))
        matrix = np.maximum(0.0, 1.0 - distances).astype(np.float32)
    else:
        matrix = lanczos3(inputs, outputs)
    with torch.inference_mode(False):
        return torch.from_numpy(matrix).to(device)


def jpeg_round_trip(image: np.ndarray) -> np.ndarray:
    """image (H, W, 3) uint8 RGB with the losses of tf.image.encode_jpeg and tf.io.decode_image.

    TensorFlow decodes with libjpeg's fast inverse DCT, which darkens by half a grey level; OpenCV cannot.

    Its halves are coded at the same time. Blocks know nothing of each other, only the colours' upsampling looks two rows
    over an edge: so each half has one row of blocks more than it gives, and no pixel differs.
    """
    height = len(image)
    cut = height // 2 // _MCU * _MCU
    if cut < 2 * _MCU:
        return _coded(image)
    lower = _threads().submit(_coded, image[cut - _MCU :])
    return np.concatenate((_coded(image[: cut + _MCU])[:cut], lower.result()[_MCU:]))


@lru_cache(maxsize=1)
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "jpeg")


def _coded(image: np.ndarray) -> np.ndarray:
    parameters = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), parameters)[1]
    return simplejpeg.decode_jpeg(encoded, fastdct=True)


def lanczos3(inputs: int, outputs: int) -> np.ndarray:
    """Matrix (outputs, inputs) of tf.image.resize(method="lanczos3", antialias=True) along one axis.

    Where it shrinks, the kernel widens with the step between samples; weights are normalised over the pixels that exist.
    Positions are in single precision, as TensorFlow's are.
    """
    step = np.float32(inputs / outputs)
    samples = (np.arange(outputs, dtype=np.float32) + np.float32(0.5)) * step
    x = (np.arange(inputs, dtype=np.float32) + np.float32(0.5) - samples[:, None]) / max(step, np.float32(1.0))
    weights = np.where(np.abs(x) <= 3, np.sinc(x) * np.sinc(x / 3), 0.0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def crop_positions(size: int) -> np.ndarray:
    """Where tf.image.crop_and_resize samples the middle along one axis (size,): the corners of the crop on pixels."""
    side = np.sqrt(CROPPED_AREA)
    return (size - 1) * ((1 - side) / 2 + side * np.arange(size) / (size - 1))


def _crop(image: np.ndarray) -> np.ndarray:
    """The middle of image (size, size, 3), bilinear, to the same size, float32 in a scratch array."""
    first, second, weights = _crop_samples(len(image))

    def along_rows(image: np.ndarray) -> np.ndarray:
        before = np.take(image, first, axis=0, out=_scratch("before", image.shape), mode="clip")
        between = np.take(image, second, axis=0, out=_scratch("between", image.shape), mode="clip")
        between -= before
        between *= weights
        between += before
        return between

    def turned(image: np.ndarray) -> np.ndarray:
        return cv2.transpose(image, dst=_scratch("middle", image.shape))

    return turned(along_rows(turned(along_rows(_floats("whole", image)))))


@lru_cache(maxsize=4)
def _crop_samples(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both pixels of each sample, and how much the second one counts (size, 1, 1)."""
    positions = crop_positions(size)
    first = np.minimum(positions.astype(int), size - 2)
    return first, first + 1, (positions - first).astype(np.float32)[:, None, None]


@lru_cache(maxsize=16)
def _lanczos3_blocks(inputs: int, outputs: int) -> list:
    return _blocks(lanczos3(inputs, outputs))


def _blocks(matrix: np.ndarray) -> list[tuple[slice, slice, np.ndarray]]:
    """The parts of a banded matrix that are not zero: (rows, columns, values) for each few rows."""
    blocks = []
    for first in range(0, len(matrix), _BLOCK):
        rows = slice(first, min(first + _BLOCK, len(matrix)))
        used = np.flatnonzero(matrix[rows].any(axis=0))
        columns = slice(used[0], used[-1] + 1)
        blocks.append((rows, columns, np.ascontiguousarray(matrix[rows, columns])))
    return blocks


def _resample(image: np.ndarray, vertical: list, horizontal: list) -> np.ndarray:
    """vertical and horizontal matrix applied to image (H, W, 3) uint8: (h, w, 3) float32 in a scratch array."""
    rows = _multiply("rows", vertical, _floats("image", image))
    columns = _multiply("columns", horizontal, cv2.transpose(rows, dst=_scratch("turned", (rows.shape[1], rows.shape[0], 3))))
    return cv2.transpose(columns, dst=_scratch("resized", (columns.shape[1], columns.shape[0], 3)))


def _multiply(name: str, blocks: list, image: np.ndarray) -> np.ndarray:
    """The matrix of the blocks (h, H) applied to the columns of image (H, W, 3) float32: (h, W, 3), a scratch array."""
    flat = image.reshape(len(image), -1)
    product = _scratch(name, (blocks[-1][0].stop, *image.shape[1:]))
    for rows, columns, values in blocks:
        np.matmul(values, flat[columns], out=product.reshape(len(product), -1)[rows])
    return product


def _floats(name: str, image: np.ndarray) -> np.ndarray:
    array = _scratch(name, image.shape)
    np.copyto(array, image)
    return array


_memory = threading.local()


def _scratch(name: str, shape: tuple) -> np.ndarray:
    """An array (shape) of this thread, float32, the same at each call: fresh pages from the system cost more than the
    arithmetic."""
    kept = _memory.__dict__
    if name not in kept or kept[name].shape != shape:
        kept[name] = np.empty(shape, np.float32)
    return kept[name]
