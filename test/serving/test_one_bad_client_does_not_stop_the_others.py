# SPDX-License-Identifier: Apache-2.0
"""A robot's goal goes on while another client does what it can: messages that unpack to gigabytes, packed bodies, half
requests by the thousand, bodies that never end. Web pages are refused, and the key is looked at before anything is read.
"""

import gzip
import json
import socket
import threading
import time

import json_numpy
import msgpack
import pytest
from served import INSTRUCTION, Http, ServerProcess, images, served_here, websocket

from vla_sd_ros.serving import door
from vla_sd_ros.serving.door import HEADER_TIMEOUT, MAX_CONNECTIONS
from vla_sd_ros.serving.wire import pack, unpack

MEMORY = 256 << 20  # bytes by which the server may grow
LATE = 2.0  # s for an answer, which is what vla_node allows


class Robot:
    """Asks as vla_node does, ten times a second, and notes how long the answers took."""

    def __init__(self, port: int, key: str = ""):
        self.waits, self._over = [], threading.Event()
        self._connection, _ = websocket(port, key)
        self._thread = threading.Thread(target=self._ask)

    def _ask(self):
        message = pack({"observation/image": images(1)[0], "prompt": INSTRUCTION})
        while not self._over.wait(0.1):
            begin = time.monotonic()
            self._connection.send(message)
            assert "actions" in unpack(self._connection.recv(10.0))
            self.waits.append(time.monotonic() - begin)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join(15.0)
        self._connection.close()


def raw(port: int, data: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=10.0)
    connection.sendall(data)
    return connection


def empty_maps(port: int) -> None:
    connection, _ = websocket(port)
    connection.send(b"\xdd" + (15 << 20).to_bytes(4, "big") + b"\x80" * (15 << 20))  # a list of 15 million empty maps
    assert "are no msgpack message" in connection.recv(10.0)
    nested = msgpack.packb([[{}] * 9_000] * 500)
    connection.send(nested)
    assert "more than 10000 entries" in connection.recv(10.0)
    connection.close()


def empty_lists_in_json(port: int) -> None:
    status, text = Http(port).act(b"[" + b"[]," * (5 << 20) + b"[]]")
    assert status == 400 and "more than 10000 entries" in text


def zstd_of_zeros(blocks: int) -> bytes:
    """A frame of RFC 8878 that says "128 KiB of zeros" for each block, in four bytes."""
    block = [(128 << 10 << 3 | 0b010 | last).to_bytes(3, "little") + b"\0" for last in (0, 1)]
    return b"\x28\xb5\x2f\xfd" + bytes([0, 7 << 3]) + block[0] * (blocks - 1) + block[1]


def bodies_in_gzip(port: int) -> None:
    packed(port, "gzip", gzip.compress(b"\0" * (64 << 20)))


def bodies_in_zstd(port: int) -> None:
    packed(port, "zstd", zstd_of_zeros(512))


def packed(port: int, kind: str, body: bytes) -> None:
    head = (f"POST /act HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Encoding: {kind}\r\nContent-Length: {len(body)}\r\n\r\n").encode()
    connections = [raw(port, head + body) for _ in range(30)]
    assert all(b" 415 " in connection.recv(100) for connection in connections)
    for connection in connections:
        connection.close()
    status, text = Http(port, {"Content-Encoding": kind}).act(body)
    assert (status, json.loads(text)["error"]) == (415, f"the body is packed as '{kind}': send it as it is")


def half_requests(port: int) -> None:
    connections = [raw(port, b"POST /act HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Part: ") for _ in range(MAX_CONNECTIONS + 200)]
    other, _ = websocket(port)  # a client that comes now is served
    other.close()
    begin = time.monotonic()
    while any(still_open(connection) for connection in connections):
        assert time.monotonic() - begin < HEADER_TIMEOUT + 3.0
        time.sleep(0.2)
    for connection in connections:
        connection.close()


def still_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def bodies_that_never_end(port: int) -> None:
    head = b"POST /act HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10000000\r\n\r\n"
    connections = [raw(port, head + b"x" * 1000) for _ in range(40)]
    time.sleep(1.0)
    for connection in connections:
        connection.close()


@pytest.mark.parametrize(
    "attack", [empty_maps, empty_lists_in_json, bodies_in_gzip, bodies_in_zstd, half_requests, bodies_that_never_end]
)
def test_the_robots_goal_goes_on(server, attack):
    before = server.memory
    with Robot(server.port) as robot:
        time.sleep(0.5)
        attack(server.port)
        time.sleep(0.5)
    assert len(robot.waits) > 5 and max(robot.waits) < LATE, robot.waits
    assert server.memory - before < MEMORY


def test_a_robot_over_act_is_answered_beside_bodies_that_never_end(server):
    head = b"POST /act HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10000000\r\n\r\n"
    connections = [raw(server.port, head + b"x" * 1000) for _ in range(40)]
    time.sleep(0.3)
    for image in images(3):
        begin = time.monotonic()
        status, text = Http(server.port).act(json_numpy.dumps({"image": image, "instruction": INSTRUCTION}))
        assert status == 200 and time.monotonic() - begin < LATE, text
    for connection in connections:
        connection.close()


def test_a_body_that_does_not_end_is_given_up(local, monkeypatch):
    monkeypatch.setattr(door, "BODY_TIMEOUT", 0.5)
    with served_here(local) as port:
        connection = raw(port, b"POST /act HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{")
        assert b" 408 " in connection.recv(1000)
        connection.close()
        time.sleep(0.2)  # until the server has noticed


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example:8000"}, {"Origin": "http://127.0.0.1:8000"}],
)
def test_a_web_page_is_refused(server, headers):
    body = json_numpy.dumps({"image": images(1)[0], "instruction": INSTRUCTION})
    status, text = Http(server.port, headers).act(body)
    assert status == 403 and ("web pages" in text or "localhost" in text)
    assert Http(server.port, headers).ask("GET", "/healthz")[0] == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1", "[::1]:8000", "192.168.7.2:8000"])
def test_by_its_address_it_answers(server, host):
    assert Http(server.port, {"Host": host}).ask("GET", "/healthz")[0] == 200


def test_a_page_that_is_allowed_may_ask_and_the_key_comes_before_the_body(checkpoint, tmp_path):
    (tmp_path / "key").write_text("secret")
    process = ServerProcess(
        [
            "--checkpoint",
            str(checkpoint),
            "--threads",
            "1",
            "--port",
            "0",
            "--allow-origin",
            "http://page.example",
            "--api-key-file",
            str(tmp_path / "key"),
        ],
        tmp_path / "log",
    )
    try:
        process.wait_until_ready()
        page = {"Origin": "http://page.example", "Host": "robot.example"}
        assert Http(process.port, page).act("{}")[0] == 401
        assert Http(process.port, {**page, "Authorization": "Api-Key secret"}).act("{}")[0] == 400
        # No byte of this body is ever sent, and the answer is there.
        connection = raw(process.port, b"POST /act HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10000000\r\n\r\n")
        assert b" 401 " in connection.recv(1000)
    finally:
        process.kill()
