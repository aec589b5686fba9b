# SPDX-License-Identifier: Apache-2.0
"""Makes tensorflow_images.npz: python make_tensorflow_images.py, anywhere where TensorFlow (2.21) is installed.

The calls are those of OpenVLA's evaluation scripts.
"""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

sys.path.insert(0, str(Path(__file__).parents[1]))

from pattern import SIZES, SUBSET, pattern  # noqa: E402


def round_trip(image):
    return tf.io.decode_image(tf.image.encode_jpeg(image), expand_animations=False, dtype=tf.uint8)


def resize(image):
    return tf.image.resize(image, (224, 224), method="lanczos3", antialias=True)


def to_bytes(image):
    return tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)


def crop(image):
    side = tf.reshape(tf.sqrt(0.9), (1,))
    offset = (1 - side) / 2
    boxes = tf.stack([offset, offset, offset + side, offset + side], axis=1)
    scaled = tf.image.convert_image_dtype(image, tf.float32)[None]
    cropped = tf.clip_by_value(tf.image.crop_and_resize(scaled, boxes, tf.range(1), (224, 224)), 0, 1)
    return tf.image.convert_image_dtype(cropped, tf.uint8, saturate=True)[0]


images = {}
for height, width in SIZES:
    image = pattern(height, width)
    for name, result in {
        "resized": tf.cast(resize(image), tf.float32),
        "plain": to_bytes(resize(image)),
        "jpeg": to_bytes(resize(round_trip(image))),
        "cropped": crop(to_bytes(resize(image))),
        "all": crop(to_bytes(resize(round_trip(image[::-1, ::-1])))),
    }.items():
        images[f"{name}_{height}x{width}"] = result.numpy()[SUBSET]
np.savez_compressed(Path(__file__).with_name("tensorflow_images.npz"), **images)
