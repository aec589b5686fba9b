# SPDX-License-Identifier: Apache-2.0
"""Camera messages to RGB arrays, or one sentence why not. No cv_bridge: it is not everywhere, and breaks on numpy 2 in places."""

import cv2
import numpy as np
import simplejpeg

# encoding (sensor_msgs/image_encodings.hpp): bytes per channel, number of channels, places of red, green, blue
_LAYOUTS = {
    "rgb8": (1, 3, (0, 1, 2)),
    "bgr8": (1, 3, (2, 1, 0)),
    "rgba8": (1, 4, (0, 1, 2)),
    "bgra8": (1, 4, (2, 1, 0)),
    "mono8": (1, 1, (0, 0, 0)),
    "rgb16": (2, 3, (0, 1, 2)),
    "bgr16": (2, 3, (2, 1, 0)),
    "rgba16": (2, 4, (0, 1, 2)),
    "bgra16": (2, 4, (2, 1, 0)),
    "mono16": (2, 1, (0, 0, 0)),
}
# Two pixels in four bytes, as webcams have them; each name has an older one.
_YUV = {
    "uyvy": cv2.COLOR_YUV2RGB_UYVY,
    "yuv422": cv2.COLOR_YUV2RGB_UYVY,
    "yuyv": cv2.COLOR_YUV2RGB_YUY2,
    "yuv422_yuy2": cv2.COLOR_YUV2RGB_YUY2,
}
JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"  # how a file of each begins
MAX_PIXELS = 2**25  # a picture of 8K; a few bytes can claim far more


def unreadable(message) -> str:
    """Why no picture can be made of messages of this kind, with what mends it; empty where it can. Looks at no pixels.

    message: a sensor_msgs/Image or CompressedImage.
    """
    if hasattr(message, "format"):
        known = any(name in message.format.lower() for name in ("jpeg", "jpg", "png"))
        return (
            ""
            if known or bytes(message.data[: len(PNG)]).startswith((JPEG, PNG))
            else (
                f"the format of the compressed images is {message.format[:40]!r}, neither jpeg nor png: set that of the camera's driver "
                "or of image_transport"
            )
        )
    if message.encoding in _LAYOUTS or message.encoding in _YUV:
        return ""
    mend = (
        "run image_proc's debayer node between"
        if message.encoding.startswith("bayer")
        else "let the camera's driver convert it (usb_cam: pixel_format yuyv2rgb or mjpeg2rgb)"
    )
    return f"image encoding {message.encoding[:40]!r} is not supported: {mend}, or use one of {', '.join((*_LAYOUTS, *_YUV))}"


def to_rgb(message) -> np.ndarray:
    """RGB pixels, uint8 (height, width, 3), of a sensor_msgs/Image; 16-bit channels keep their upper byte.

    Honours `step` (padded rows), `encoding` and `is_bigendian`. ValueError, one sentence, where the message is not
    a picture in one of the known encodings.
    """
    if problem := unreadable(message):
        raise ValueError(problem)
    size, channels, rgb = _LAYOUTS.get(message.encoding, (1, 2, None))
    height, width, row = message.height, message.width, message.width * channels * size
    _check_size(height, width)
    data = np.frombuffer(message.data, np.uint8)
    if not height or not width or message.step < row or data.size < height * message.step:
        raise ValueError(
            f"an image of {width}x{height} {message.encoding} needs {row} bytes a row, but it has step {message.step} and "
            f"{data.size} bytes in all; correct the camera driver"
        )
    pixels = data[: height * message.step].reshape(height, message.step)[:, :row]
    if message.encoding in _YUV:
        if width % 2:
            raise ValueError(
                f"an image of {width}x{height} {message.encoding} has half a pair of pixels in each row; correct the camera driver"
            )
        return cv2.cvtColor(np.ascontiguousarray(pixels).reshape(height, width, 2), _YUV[message.encoding])
    pixels = pixels.reshape(height, width, channels, size)
    pixels = pixels[..., 0 if message.is_bigendian else size - 1]  # the more significant byte
    return np.ascontiguousarray(pixels[..., rgb])


def compressed_to_rgb(message) -> np.ndarray:
    """RGB pixels, uint8 (height, width, 3), of a sensor_msgs/CompressedImage (jpeg or png).

    ValueError, one sentence, where the data cannot be decoded to the end: what is lost on the way is no picture, though
    OpenCV would fill it with grey.
    """
    data = bytes(message.data)
    try:
        if data.startswith(JPEG):
            return _decode_jpeg(data)
        if data.startswith(PNG):
            return _decode_png(data)
        raise ValueError("it is neither jpeg nor png")
    except (ValueError, cv2.error) as error:
        raise ValueError(
            f"a compressed image of {len(data)} bytes and format {message.format[:40]!r} cannot be decoded "
            f"({str(error).strip().rstrip('.')})"
        ) from error


def _decode_jpeg(data: bytes) -> np.ndarray:
    height, width, *_ = simplejpeg.decode_jpeg_header(data)
    _check_size(height, width)
    return simplejpeg.decode_jpeg(data)  # strict: a warning of libjpeg is an error


def _decode_png(data: bytes) -> np.ndarray:
    # After the signature: length and name of the first chunk, then width and height, four bytes each.
    _check_size(int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big"))
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        raise ValueError("its data are incomplete or damaged")
    return np.ascontiguousarray(bgr[..., ::-1])


def _check_size(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise ValueError(f"{width}x{height} are more than {MAX_PIXELS} pixels")
