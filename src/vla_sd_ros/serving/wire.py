# SPDX-License-Identifier: Apache-2.0
"""Arrays on the wire: openpi's msgpack, and OpenVLA's JSON.

openpi (packages/openpi-client/src/openpi_client/msgpack_numpy.py): an array is the map {b"__ndarray__": True,
b"data": bytes, b"dtype": str, b"shape": [int]}, a numpy scalar {b"__npgeneric__": True, b"data": value, b"dtype": str}.
Written here again because the package openpi-client asks for numpy 1. OpenVLA's JSON is that of the package json-numpy.
"""

import json

import msgpack
import numpy as np

MAX_ENTRIES = 10_000  # maps, and entries of lists, in a message; arrays travel as bytes, and count as one map
MAX_TEXT = 1 << 16  # characters of one text in msgpack
KINDS = "biufUS"  # of dtypes: booleans, numbers and text; objects and structures have no place in a message


class WireError(ValueError):
    """Bytes that are no message; one sentence."""


def pack(message) -> bytes:
    """A message of dicts, lists, plain values and arrays, as openpi's clients and servers send it."""
    return msgpack.packb(message, default=_packed)


def unpack(data: bytes):
    """The message in openpi's bytes; its arrays are read-only. Raises WireError."""
    entries = 0

    def count(more: int) -> None:
        nonlocal entries
        entries += more
        if entries > MAX_ENTRIES:
            raise ValueError(f"more than {MAX_ENTRIES} entries")

    def unpacked(entry: dict):
        count(1)
        return _unpacked(entry)

    def listed(entry: list) -> list:
        count(len(entry))
        return entry

    try:
        return msgpack.unpackb(
            data,
            object_hook=unpacked,
            list_hook=listed,
            max_array_len=MAX_ENTRIES,
            max_map_len=MAX_ENTRIES,
            max_str_len=MAX_TEXT,
            max_ext_len=0,
        )
    except Exception as error:  # malformed bytes make msgpack and numpy raise a dozen kinds
        raise WireError(f"these {len(data)} bytes are no msgpack message with openpi's arrays ({_short(error)})") from error


def from_json(text: str | bytes):
    """The value in a JSON text with json-numpy's arrays. Raises WireError."""
    try:
        # Before it is read: each of these may make an object of a hundred bytes. An array is one text, without any of them.
        marks = sum(map(text.count, "[{,:")) if isinstance(text, str) else sum(map(text.count, (b"[", b"{", b",", b":")))
        if marks > MAX_ENTRIES:
            raise ValueError(f"more than {MAX_ENTRIES} entries")
        return json.loads(text, object_hook=_json_array)
    except Exception as error:
        raise WireError(f"this is no JSON text with json-numpy's arrays ({_short(error)})") from error


def to_json(value) -> str:
    """A JSON text with json-numpy's arrays."""
    import json_numpy  # here, because the robot's side has no need of it

    return json_numpy.dumps(value)


def _packed(value):
    if isinstance(value, np.ndarray) and value.dtype.kind in KINDS:
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic) and value.dtype.kind in KINDS:
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"{type(value).__name__} cannot be sent")


def _unpacked(entry: dict):
    if b"__ndarray__" in entry:
        dtype, data = _dtype(entry[b"dtype"]), entry[b"data"]
        array = np.ndarray(entry[b"shape"], dtype, data)
        if array.nbytes != len(data):
            raise ValueError(f"{len(data)} bytes for an array of {array.nbytes}")
        return array
    if b"__npgeneric__" in entry:
        return _dtype(entry[b"dtype"]).type(entry[b"data"])
    return entry


def _json_array(entry: dict):
    import json_numpy

    if "__numpy__" in entry:
        _dtype(entry["dtype"])
    return json_numpy.object_hook(entry)


def _dtype(name: str) -> np.dtype:
    if not isinstance(name, str) or len(name) > 16 or np.dtype(name).kind not in KINDS:
        raise ValueError(f"dtype {str(name)[:16]!r} is not allowed")
    return np.dtype(name)


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:100]}"
