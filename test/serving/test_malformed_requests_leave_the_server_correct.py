# SPDX-License-Identifier: Apache-2.0
"""Ten thousand malformed requests over both protocols, and the server still decides as before, in the same memory."""

import json
import os
import socket

import json_numpy
import msgpack
import numpy as np
import pytest
from served import INSTRUCTION, Http, images, websocket

from vla_sd_ros.serving.wire import pack, unpack

COUNT = 10_000
GOOD = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
WRONG_VALUES = [None, True, -1, 0, 2**63, 1e308, "", " ", "\0", "\ud800", [], [[]], {}, [0] * 300, {"a": {"b": []}}, "x" * 501]
WRONG_ARRAYS = [
    np.zeros((8, 8)),
    np.zeros((8, 8, 3), np.int8),
    np.zeros((0, 8, 3), np.uint8),
    np.zeros((3, 8, 8), np.uint8),
    np.uint8(3),
    np.zeros(3, "U4"),
    np.zeros((8, 8, 4), np.uint8),
    np.float32("nan"),
    np.zeros((1, 9000, 3), np.uint8),
    np.array("text"),
]
# what describes an array, wrongly; in JSON the data are text
WRONG_FIELDS = {
    "dtype": ["O", "V8", "|S0", "x" * 50, "M8[s]", 3, None, "u1,u1", ["u1"]],
    "shape": [[8, 8], [8, 8, 3, 2**40], [2**62, 2**62], [-1, -2, 3], "888", None, [8.5, 8, 3], [0]],
    "data": ["", None, 7, [], "????"],
}


def corrupt(rng: np.random.Generator, image_key: str, text_key: str) -> dict:
    """An observation with something wrong for sure."""
    observation = {image_key: GOOD, text_key: INSTRUCTION}
    kind = rng.integers(3)
    if kind == 0:
        del observation[rng.choice([image_key, text_key])]
    elif kind == 1:
        observation[image_key] = WRONG_ARRAYS[rng.integers(len(WRONG_ARRAYS))]
    else:
        key = str(rng.choice([image_key, text_key]))
        observation[key] = WRONG_VALUES[rng.integers(len(WRONG_VALUES))]
    return observation


def pick(rng: np.random.Generator):
    """The name of a field that describes an array, and a wrong value for it."""
    name = str(rng.choice(list(WRONG_FIELDS)))
    return name, WRONG_FIELDS[name][rng.integers(len(WRONG_FIELDS[name]))]


def malformed_json(rng: np.random.Generator) -> bytes:
    """A body for POST /act."""
    kind, good = rng.integers(5), json_numpy.dumps({"image": GOOD, "instruction": INSTRUCTION})
    if kind == 0:
        return rng.bytes(rng.integers(0, 200))
    if kind == 1:
        return good[: rng.integers(len(good))].encode()
    if kind == 2:
        body = json_numpy.dumps(corrupt(rng, "image", "instruction"))
        return (body if rng.random() < 0.5 else json.dumps({"encoded": body})).encode()
    if kind == 3:
        name, value = pick(rng)
        entry = json.loads(good)
        entry["image"]["__numpy__" if name == "data" else name] = value
        return json.dumps(entry).encode()
    depth = int(rng.integers(1, 5000))
    opened, closed = ("[", "]") if rng.random() < 0.5 else ('{"image":', "}")
    return (opened * depth + "1" + closed * depth).encode()


def malformed_msgpack(rng: np.random.Generator) -> bytes:
    """A binary frame."""
    kind, good = rng.integers(5), pack({"observation/image": GOOD, "prompt": INSTRUCTION})
    if kind == 0:
        return rng.bytes(rng.integers(0, 200))
    if kind == 1:
        return good[: rng.integers(len(good))]
    if kind == 2:
        return msgpack.packb(
            corrupt(rng, "observation/image", "prompt"),
            unicode_errors="surrogatepass",
            default=lambda value: {
                b"__ndarray__": True,
                b"data": value.tobytes(),
                b"dtype": value.dtype.str,
                b"shape": value.shape,
            },
        )
    if kind == 3:
        name, value = pick(rng)
        entry = {b"__ndarray__": True, b"data": GOOD.tobytes(), b"dtype": "|u1", b"shape": [8, 8, 3]} | {name.encode(): value}
        return msgpack.packb({"observation/image": entry, "prompt": INSTRUCTION})
    return b"\x91" * int(rng.integers(1, 3000)) + b"\xc7\x03\x05abc" + rng.bytes(3)


def test_ten_thousand_malformed_requests(server, local):
    rng = np.random.default_rng(int(os.environ.get("VLA_SD_FUZZ_SEED", 0)))
    memory = server.memory
    over_http, (over_websocket, _) = Http(server.port), websocket(server.port)
    for _ in range(COUNT // 100):
        for body in [malformed_json(rng) for _ in range(49)]:
            status, text = over_http.act(body)
            assert status == 400 and json.loads(text)["error"], body
        frames = [malformed_msgpack(rng) for _ in range(49)]
        for frame in frames:
            over_websocket.send(frame)
        for frame in frames:
            assert isinstance(over_websocket.recv(30.0), str), frame
        over_websocket.send("text frames are malformed too")
        assert "text frame" in over_websocket.recv(30.0)
        raw_bytes(server.port, rng)
    assert server.process.poll() is None
    assert server.memory - memory < 64 << 20

    seen = images(2)
    actions = []
    for image in seen:
        over_websocket.send(pack({"observation/image": image, "prompt": INSTRUCTION}))
        actions.append(unpack(over_websocket.recv(30.0))["actions"][0])
    np.testing.assert_array_equal(actions, local.actions(seen))
    status, text = over_http.act(json_numpy.dumps({"image": seen[0], "instruction": "place it in the basket"}))
    np.testing.assert_array_equal(json_numpy.loads(text), local.actions(seen[:1], "place it in the basket")[0])
    assert "Traceback" not in server.log
    over_http.close()
    over_websocket.close()


def raw_bytes(port: int, rng: np.random.Generator) -> None:
    """What is no HTTP, half an HTTP request, or no websocket frame; the server may answer or hang up."""
    upgrade = (
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    begin = [
        b"",
        b"POST /act HTTP/1.1\r\nContent-Length: 1000\r\n\r\n",
        b"POST /act HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        upgrade,
    ][rng.integers(4)]
    with socket.create_connection(("127.0.0.1", port), timeout=10.0) as connection:
        connection.sendall(begin + rng.bytes(50))


@pytest.mark.parametrize("size, status", [((15 << 20), 400), ((20 << 20), 413)])
def test_a_huge_body_is_refused(server, size, status):
    client = Http(server.port)
    try:
        answer = client.act(b" " * size)
    except (BrokenPipeError, ConnectionResetError):
        assert status == 413  # the server hung up before it had read it all
    else:
        assert answer[0] == status and json.loads(answer[1])["error"]
    client.close()
