# SPDX-License-Identifier: Apache-2.0
"""Camera messages become the same RGB pixels whatever their encoding, row padding and byte order."""
from types import SimpleNamespace

import numpy as np
import pytest

from vla_sd_ros.images import compressed_to_rgb, to_rgb

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
GRAY = np.repeat(RGB[..., :1], 3, axis=2)


def picture(pixels: np.ndarray, encoding: str, padding: int = 0, big_endian: bool = False) -> SimpleNamespace:
    """The fields of a sensor_msgs/Image."""
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(len(pixels), -1)
    data = np.pad(rows, ((0, 0), (0, padding)), constant_values=99).tobytes()
    return SimpleNamespace(height=5, width=7, encoding=encoding, step=rows.shape[1] + padding, data=data,
                           is_bigendian=int(big_endian))


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("encoding, pixels, expected", [
    ("rgb8", RGB, RGB),
    ("bgr8", RGB[..., ::-1], RGB),
    ("rgba8", np.dstack([RGB, GRAY[..., 0]]), RGB),
    ("bgra8", np.dstack([RGB[..., ::-1], GRAY[..., 0]]), RGB),
    ("mono8", GRAY[..., 0], GRAY)])
def test_eight_bit_encodings(encoding, pixels, expected, padding):
    np.testing.assert_array_equal(to_rgb(picture(pixels, encoding, padding)), expected)


@pytest.mark.parametrize("order, big_endian", [("<u2", False), (">u2", True)])
def test_sixteen_bit_encodings_honour_the_byte_order(order, big_endian):
    wide = (RGB.astype(np.uint16) * 256 + 17).astype(order)
    np.testing.assert_array_equal(to_rgb(picture(wide, "rgb16", 2, big_endian)), RGB)
    np.testing.assert_array_equal(to_rgb(picture(wide[..., 0], "mono16", 2, big_endian)), GRAY)


def test_an_unknown_encoding_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'yuv422' is not supported; use one of rgb8, bgr8"):
        to_rgb(picture(RGB, "yuv422"))


def test_too_little_data_is_refused():
    message = picture(RGB, "rgb8")
    message.data = message.data[:-1]
    with pytest.raises(ValueError, match="correct the camera driver"):
        to_rgb(message)


def test_compressed_images_are_decoded_to_rgb():
    cv2 = pytest.importorskip("cv2")
    data = cv2.imencode(".png", RGB[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(compressed_to_rgb(SimpleNamespace(data=data, format="png")), RGB)
    with pytest.raises(ValueError, match="send jpeg or png"):
        compressed_to_rgb(SimpleNamespace(data=b"no picture", format="jpeg"))
