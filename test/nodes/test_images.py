# SPDX-License-Identifier: Apache-2.0
"""Camera messages become the same RGB pixels whatever their encoding, row padding and byte order."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from vla_sd_ros.messages.images import JPEG, MAX_PIXELS, compressed_to_rgb, to_rgb, unreadable

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
GRAY = np.repeat(RGB[..., :1], 3, axis=2)


def picture(pixels: np.ndarray, encoding: str, padding: int = 0, big_endian: bool = False) -> SimpleNamespace:
    """The fields of a sensor_msgs/Image."""
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(len(pixels), -1)
    data = np.pad(rows, ((0, 0), (0, padding)), constant_values=99).tobytes()
    return SimpleNamespace(
        height=5, width=7, encoding=encoding, step=rows.shape[1] + padding, data=data, is_bigendian=int(big_endian)
    )


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize(
    "encoding, pixels, expected",
    [
        ("rgb8", RGB, RGB),
        ("bgr8", RGB[..., ::-1], RGB),
        ("rgba8", np.dstack([RGB, GRAY[..., 0]]), RGB),
        ("bgra8", np.dstack([RGB[..., ::-1], GRAY[..., 0]]), RGB),
        ("mono8", GRAY[..., 0], GRAY),
    ],
)
def test_eight_bit_encodings(encoding, pixels, expected, padding):
    np.testing.assert_array_equal(to_rgb(picture(pixels, encoding, padding)), expected)


@pytest.mark.parametrize("order, big_endian", [("<u2", False), (">u2", True)])
def test_sixteen_bit_encodings_honour_the_byte_order(order, big_endian):
    wide = (RGB.astype(np.uint16) * 256 + 17).astype(order)
    np.testing.assert_array_equal(to_rgb(picture(wide, "rgb16", 2, big_endian)), RGB)
    np.testing.assert_array_equal(to_rgb(picture(wide[..., 0], "mono16", 2, big_endian)), GRAY)


@pytest.mark.parametrize(
    "encoding, luma, code",
    [
        ("yuv422_yuy2", 0, cv2.COLOR_RGB2YUV_YUY2),
        ("yuyv", 0, cv2.COLOR_RGB2YUV_YUY2),
        ("yuv422", 1, cv2.COLOR_RGB2YUV_UYVY),
        ("uyvy", 1, cv2.COLOR_RGB2YUV_UYVY),
    ],
)
def test_webcams_pairs_of_pixels_are_read(encoding, luma, code):
    y, x = np.mgrid[0:48, 0:64]
    scene = np.stack([4 * x, 5 * y, 255 - 2 * x - 2 * y], axis=2).astype(np.uint8)
    packed = cv2.cvtColor(scene, code)
    message = SimpleNamespace(
        height=48,
        width=64,
        encoding=encoding,
        step=128 + 6,
        is_bigendian=0,
        data=np.pad(packed.reshape(48, 128), ((0, 0), (0, 6)), constant_values=99).tobytes(),
    )
    error = np.abs(to_rgb(message).astype(int) - scene)
    assert error.mean() < 3 and error.max() < 12  # pairs share their colour
    message.width, message.step = 63, 128
    with pytest.raises(ValueError, match="half a pair"):
        to_rgb(message)


@pytest.mark.parametrize(
    "encoding, mend", [("bayer_rggb8", "image_proc's debayer"), ("nv21", "pixel_format yuyv2rgb"), ("", "rgb8")]
)
def test_an_unknown_encoding_is_refused_with_what_mends_it_before_any_pixel_is_looked_at(encoding, mend):
    message = SimpleNamespace(encoding=encoding, data=b"")
    assert mend in unreadable(message) and "use one of rgb8, bgr8" in unreadable(message)
    with pytest.raises(ValueError, match="is not supported"):
        to_rgb(message)
    assert not any(unreadable(SimpleNamespace(encoding=known, data=b"")) for known in ("rgb8", "mono16", "yuv422_yuy2"))


def test_too_little_data_is_refused():
    message = picture(RGB, "rgb8")
    message.data = message.data[:-1]
    with pytest.raises(ValueError, match="correct the camera driver"):
        to_rgb(message)


# A scene, 240 x 320: smooth enough that lost bytes of its JPEG leave a picture that looks like one.
SCENE = cv2.normalize(
    cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8), (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX
)
KINDS = {
    "jpeg": (".jpg", []),
    "progressive": (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
    "with restarts": (".jpg", [cv2.IMWRITE_JPEG_RST_INTERVAL, 8]),
    "png": (".png", []),
}


def encoded(kind: str, pixels: np.ndarray = SCENE) -> bytes:
    extension, options = KINDS[kind]
    return cv2.imencode(extension, pixels[..., ::-1], options)[1].tobytes()


def decoded(data: bytes) -> np.ndarray:
    return compressed_to_rgb(SimpleNamespace(data=data, format="a format"))


@pytest.mark.parametrize("kind", KINDS)
def test_compressed_images_are_decoded_as_opencv_decodes_them(kind):
    data = encoded(kind)
    np.testing.assert_array_equal(decoded(data), cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1])


def test_a_grey_jpeg_is_a_picture_too():
    assert decoded(cv2.imencode(".jpg", SCENE[..., 0])[1].tobytes()).shape == SCENE.shape


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_of_which_a_part_was_lost_is_none(kind):
    data = encoded(kind)
    parts = [data[: len(data) * share // 10] for share in range(1, 10)] + [data[:-2]]
    ended = [part + b"\xff\xd9" for part in parts[:-1]] if kind != "png" else [part + data[-12:] for part in parts[:-1]]
    for damaged in parts + ended:
        with pytest.raises(ValueError, match="cannot be decoded"):
            decoded(damaged)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_that_lost_200_bytes_somewhere_is_nearly_always_found_out(kind):
    data = encoded(kind)
    places = range(1000, len(data) - 200, 97)
    whole = 0
    for place in places:
        try:
            decoded(data[:place] + data[place + 200 :])
            whole += 1
        except ValueError:
            pass
    assert len(places) > 100 and whole <= 0.1 * len(places)  # JPEG has no checksum: by chance it comes out even


def claims(width: int, height: int, kind: str) -> bytes:
    """A small file that says it is a large picture."""
    data = bytearray(encoded(kind, RGB))
    if kind == "png":
        data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    else:
        frame = data.index(b"\xff\xc0")
        data[frame + 5 : frame + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(data)


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_no_memory_is_taken_for_more_pixels_than_a_camera_has(kind, monkeypatch):
    monkeypatch.setattr("simplejpeg.decode_jpeg", None)
    monkeypatch.setattr("cv2.imdecode", None)
    with pytest.raises(ValueError, match=f"65000x65000 are more than {MAX_PIXELS} pixels"):
        decoded(claims(65000, 65000, kind))


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x1f\x8b gzip", b"BM a bitmap"])
def test_what_is_neither_jpeg_nor_png_is_told(data):
    with pytest.raises(ValueError, match="is neither jpeg nor png"):
        decoded(data)


@pytest.mark.parametrize(
    "name, data, fine",
    [("jpeg", b"damaged", True), ("bgr8; png compressed bgr8", b"", True), ("", JPEG, True), ("h264", b"\0\0\0\1", False)],
)
def test_a_format_that_cannot_be_read_is_told_and_a_damaged_file_is_no_format(name, data, fine):
    problem = unreadable(SimpleNamespace(format=name, data=data))
    assert not problem if fine else "'h264', neither jpeg nor png: set that of the camera's driver" in problem
