# SPDX-License-Identifier: Apache-2.0
"""Camera messages to RGB arrays. Plain numpy: cv_bridge is not everywhere, and breaks on numpy 2 in places."""
import numpy as np

# encoding (sensor_msgs/image_encodings.hpp): bytes per channel, number of channels, places of red, green, blue
_LAYOUTS = {
    "rgb8": (1, 3, (0, 1, 2)), "bgr8": (1, 3, (2, 1, 0)),
    "rgba8": (1, 4, (0, 1, 2)), "bgra8": (1, 4, (2, 1, 0)),
    "mono8": (1, 1, (0, 0, 0)),
    "rgb16": (2, 3, (0, 1, 2)), "bgr16": (2, 3, (2, 1, 0)),
    "rgba16": (2, 4, (0, 1, 2)), "bgra16": (2, 4, (2, 1, 0)),
    "mono16": (2, 1, (0, 0, 0)),
}
MAX_PIXELS = 2 ** 25    # a picture of 8K; a few bytes can claim far more


def to_rgb(message) -> np.ndarray:
    """RGB pixels, uint8 (height, width, 3), of a sensor_msgs/Image; 16-bit channels keep their upper byte.

    Honours `step` (padded rows), `encoding` and `is_bigendian`. ValueError, one sentence, where the message is not
    a picture in one of the known encodings.
    """
    if message.encoding not in _LAYOUTS:
        raise ValueError(f"image encoding {message.encoding!r} is not supported; use one of {', '.join(_LAYOUTS)}")
    size, channels, rgb = _LAYOUTS[message.encoding]
    height, width, row = message.height, message.width, message.width * channels * size
    data = np.frombuffer(message.data, np.uint8)
    if not height or not width or message.step < row or data.size < height * message.step:
        raise ValueError(f"an image of {width}x{height} {message.encoding} needs {row} bytes a row, but it has step "
                         f"{message.step} and {data.size} bytes in all; correct the camera driver")
    pixels = data[:height * message.step].reshape(height, message.step)[:, :row]
    pixels = pixels.reshape(height, width, channels, size)
    pixels = pixels[..., 0 if message.is_bigendian else size - 1]        # the more significant byte
    return np.ascontiguousarray(pixels[..., rgb])


def compressed_to_rgb(message) -> np.ndarray:
    """RGB pixels, uint8 (height, width, 3), of a sensor_msgs/CompressedImage (jpeg or png).

    ValueError, one sentence, where the data cannot be decoded.
    """
    import cv2

    data = np.frombuffer(message.data, np.uint8)
    bgr = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if bgr is None:
        raise ValueError(f"a compressed image of {data.size} bytes and format {message.format!r} cannot be decoded; "
                         "send jpeg or png")
    return np.ascontiguousarray(bgr[..., ::-1])
