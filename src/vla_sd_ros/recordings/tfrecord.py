# SPDX-License-Identifier: Apache-2.0
"""TFRecord files without TensorFlow: the framing and its checksums, and tf.train.Example by protobuf."""

import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np

from vla_sd_ros.recordings.episode import Damaged, RecordingError

# tensorflow/core/example/{example,feature}.proto; its `oneof` makes no difference on the wire.
_EXAMPLE = """
name: "example.proto" package: "tfrecord" syntax: "proto3"
message_type { name: "BytesList" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_BYTES } }
message_type { name: "FloatList" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_FLOAT } }
message_type { name: "Int64List" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_INT64 } }
message_type { name: "Feature"
  field { name: "bytes_list" number: 1 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".tfrecord.BytesList" }
  field { name: "float_list" number: 2 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".tfrecord.FloatList" }
  field { name: "int64_list" number: 3 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".tfrecord.Int64List" } }
message_type { name: "Features"
  field { name: "feature" number: 1 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".tfrecord.Features.FeatureEntry" }
  nested_type { name: "FeatureEntry" options { map_entry: true }
    field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
    field { name: "value" number: 2 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".tfrecord.Feature" } } }
message_type { name: "Example"
  field { name: "features" number: 1 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".tfrecord.Features" } }
"""
MASK = 0xA282EAD8  # of the checksums, so that one over data that hold one is no easy case


@cache
def example_class() -> type:
    """The message class of tf.train.Example. RecordingError where protobuf is missing."""
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
    except ImportError as error:
        raise RecordingError("reading tfrecords needs protobuf: pip install 'vla_sd_ros[data]'") from error
    pool = descriptor_pool.DescriptorPool()  # not the default one, in which TensorFlow may have its own
    pool.Add(text_format.Parse(_EXAMPLE, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tfrecord.Example"))


def masked_crc(data: bytes) -> int:
    """The checksum of TFRecord. RecordingError where crc32c is missing."""
    try:
        from crc32c import crc32c
    except ImportError as error:
        raise RecordingError("reading tfrecords needs crc32c: pip install 'vla_sd_ros[data]'") from error
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + MASK) & 0xFFFFFFFF


def records(path: Path) -> Iterator[bytes | None]:
    """The records of a file; None for one whose checksum is wrong. Damaged where the next one cannot be found."""
    with path.open("rb") as file:
        size = path.stat().st_size
        while head := file.read(12):
            length, crc = struct.unpack("<QI", head) if len(head) == 12 else (size, 0)
            if file.tell() + length + 4 > size:
                raise Damaged("is cut short")
            if masked_crc(head[:8]) != crc:
                raise Damaged(f"is damaged at byte {file.tell() - 12}")
            data, (crc,) = file.read(length), struct.unpack("<I", file.read(4))
            yield data if masked_crc(data) == crc else None


def features(record: bytes) -> dict[str, list[bytes] | np.ndarray]:
    """The values of a tf.train.Example by name: bytes, or numbers (n,). Damaged where it is none."""
    from google.protobuf.message import DecodeError

    example = example_class()()
    try:
        example.ParseFromString(record)
    except DecodeError as error:
        raise Damaged(f"is no tf.train.Example ({error})") from error
    return {name: _values(feature) for name, feature in example.features.feature.items()}


def _values(feature) -> list[bytes] | np.ndarray:
    if feature.HasField("bytes_list"):
        return list(feature.bytes_list.value)
    if feature.HasField("int64_list"):
        return np.array(feature.int64_list.value, np.int64)
    return np.array(feature.float_list.value, np.float32)
