# SPDX-License-Identifier: Apache-2.0
"""Small RLDS datasets, written as TFDS writes them: features.json, dataset_info.json, tfrecords."""

import json
import struct

import cv2
import numpy as np

from vla_sd_ros.recordings.tfrecord import example_class, masked_crc

CORE = "tensorflow_datasets.core.features."


def tensor(*shape, dtype="float32", encoding="none"):
    dimensions = {"dimensions": [str(size) for size in shape]} if shape else {}
    return {
        "pythonClassName": CORE + "tensor_feature.Tensor",
        "tensor": {"shape": dimensions, "dtype": dtype, "encoding": encoding},
    }


def image():
    return {
        "pythonClassName": CORE + "image_feature.Image",
        "image": {"shape": {"dimensions": ["8", "8", "3"]}, "dtype": "uint8", "encodingFormat": "png"},
    }


def together(**features):
    return {"pythonClassName": CORE + "features_dict.FeaturesDict", "featuresDict": {"features": features}}


def layout(cameras=("image_0",), action=tensor(7), **changes):
    text = {"pythonClassName": CORE + "text_feature.Text", "text": {}}
    step = {
        "action": action,
        "language_instruction": text,
        "reward": tensor(),
        "is_last": tensor(dtype="bool"),
        "observation": together(state=tensor(7), **{name: image() for name in cameras}),
    } | changes
    steps = {"pythonClassName": CORE + "dataset_feature.Dataset", "sequence": {"feature": together(**step), "length": "-1"}}
    return together(steps=steps, episode_metadata=together(file_path=text))


def picture(value):
    return cv2.imencode(".png", np.full((8, 8, 3), value, np.uint8))[1].tobytes()


def episode(number, steps=4, **changes):
    """The values of one episode's record: its pictures have the greys 10 * number + step."""
    actions = np.array([[0.01 * step, -0.02, 0.001 * number, 0.1, 0.0, -0.1, step % 2] for step in range(steps)])
    return {
        "steps/action": actions.ravel(),
        "steps/observation/image_0": [picture(10 * number + step) for step in range(steps)],
        "steps/language_instruction": [b"Open the drawer."] * steps,
        "steps/reward": np.zeros(steps),
        "steps/is_last": np.arange(steps) == steps - 1,
        "steps/observation/state": np.zeros(7 * steps),
        "episode_metadata/file_path": [b"/somewhere"],
    } | changes


def record(values):
    """A framed tf.train.Example."""
    example = example_class()()
    for name, value in values.items():
        feature = example.features.feature[name]
        if isinstance(value, list):
            feature.bytes_list.value.extend(value)
        elif value.dtype.kind in "bi":
            feature.int64_list.value.extend(map(int, value))
        else:
            feature.float_list.value.extend(map(float, value))
    data = example.SerializeToString()
    length = struct.pack("<Q", len(data))
    return b"".join((length, struct.pack("<I", masked_crc(length)), data, struct.pack("<I", masked_crc(data))))


def write(folder, episodes, declared=None, shards=1, kind="tfrecord"):
    """A dataset of these episodes, dealt to shards in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "features.json").write_text(json.dumps(declared or layout()))
    (folder / "dataset_info.json").write_text(json.dumps({"name": "mine", "fileFormat": kind, "version": "1.0.0"}))
    for shard in range(shards):
        path = folder / f"mine-train.tfrecord-{shard:05d}-of-{shards:05d}"
        path.write_bytes(b"".join(map(record, episodes[shard::shards])))
    return folder
