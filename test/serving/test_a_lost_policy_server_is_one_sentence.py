# SPDX-License-Identifier: Apache-2.0
"""Whatever the policy server does wrong, vla_node's client says so in one sentence within its time limit."""

import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from served import INSTRUCTION, images
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

from vla_sd_ros.serving.remote import RemoteError, RemotePolicy
from vla_sd_ros.serving.wire import pack, unpack

TIMEOUT = 0.5
ACTION = [0.01, 0.02, 0.03, 0.1, 0.2, 0.3, 1.0]


@contextmanager
def policy_server(handler):
    """A websocket server of this process with this handler; its url."""
    with serve(handler, "127.0.0.1", 0, compression=None, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join()


def openpi(infer):
    """The handler of openpi's websocket_policy_server.py around infer(observation) -> answer."""

    def handler(connection):
        connection.send(pack({}))
        for message in connection:
            try:
                connection.send(pack({**infer(unpack(message)), "server_timing": {"infer_ms": 1.0}}))
            except Exception as error:
                connection.send(f"Traceback (most recent call last):\n  ...\n{type(error).__name__}: {error}\n")
                connection.close(1011)

    return handler


def ask(url: str, **options):
    remote = RemotePolicy(url, TIMEOUT, **options)
    try:
        return remote.decide(images(1)[0], INSTRUCTION)
    finally:
        remote.close()


def test_the_first_action_of_another_servers_chunk_is_taken():
    seen = []

    def infer(observation):
        seen.append(observation)
        return {"actions": np.array([ACTION, [9.0] * 7], np.float32)}

    with policy_server(openpi(infer)) as url:
        decision = ask(url, image_key="observation/exterior_image_1_left")
    np.testing.assert_allclose(decision.action, ACTION, rtol=1e-6)
    assert (decision.decoder, decision.forward_passes) == ("remote", 0) and decision.timings_ms["total"] > 0
    assert seen[0].keys() == {"observation/exterior_image_1_left", "prompt"} and seen[0]["prompt"] == INSTRUCTION
    np.testing.assert_array_equal(seen[0]["observation/exterior_image_1_left"], images(1)[0])


@pytest.mark.parametrize(
    "answer, sentence",
    [
        ({}, "gave no array of actions"),
        ({"actions": "none"}, "gave no array of actions"),
        ({"actions": np.zeros((10, 8))}, "which is not seven finite numbers"),
        ({"actions": np.full((1, 7), np.nan)}, "which is not seven finite numbers"),
        ({"actions": np.array([[0.0] * 6 + [-1.0]])}, "gripper opening of -1.00"),
    ],
)
def test_answers_that_cannot_be_used(answer, sentence):
    with policy_server(openpi(lambda observation: answer)) as url, pytest.raises(RemoteError, match=sentence):
        ask(url)


def test_the_last_line_of_a_traceback_is_told():
    def infer(observation):
        return {"actions": observation["observation/wrist_image"]}

    with policy_server(openpi(infer)) as url, pytest.raises(RemoteError, match="refused: KeyError: 'observation/wrist_image'"):
        ask(url)


@pytest.mark.parametrize(
    "greeting, sentence",
    [(b"\xc1", "does not speak openpi's protocol"), (pack([1]), "sent a list instead of a map"), ("hello", "refused: hello")],
)
def test_a_server_of_something_else(greeting, sentence):
    def greet(connection):
        connection.send(greeting)
        with suppress(ConnectionClosed):  # by the client: a close of this side may overtake the greeting
            connection.recv(timeout=5.0)

    with policy_server(greet) as url, pytest.raises(RemoteError, match=sentence):
        ask(url)


def test_a_server_that_answers_twice_is_not_believed():
    """The second answer would be taken for that of the next image, and so on for ever."""

    def handler(connection):
        connection.send(pack({}))
        for _ in connection:
            for _ in range(2):
                connection.send(pack({"actions": np.array([ACTION])}))

    with policy_server(handler) as url:
        remote = RemotePolicy(url, TIMEOUT)
        progress = remote.begin()
        progress.record(remote.decide(images(1)[0], INSTRUCTION, progress).bins)
        time.sleep(0.1)
        with pytest.raises(RemoteError, match="answered twice.*mend the server"):
            remote.decide(images(1)[0], INSTRUCTION, progress)
        remote.close()


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "gpu:8000", "ws://", "ws://gpu:port"])
def test_a_wrong_address(url):
    with pytest.raises(ValueError, match="but must be like ws://host:8000"):
        ask(url)


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"ws://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(RemoteError, match="no policy server answers at ws://127.0.0.1.*start one with vla-sd serve"):
        ask(url)


@pytest.mark.parametrize("silent", ["before the handshake", "after it", "after the metadata"])
def test_a_silent_server_costs_no_more_than_the_time_limit(silent):
    over = threading.Event()

    def handler(connection):
        if silent == "after the metadata":
            connection.send(pack({}))
        over.wait(20.0)

    begin = time.monotonic()
    with pytest.raises(RemoteError, match="did not answer within 0.5 s|no policy server answers"):
        if silent == "before the handshake":
            with socket.create_server(("127.0.0.1", 0)) as mute:
                ask(f"ws://127.0.0.1:{mute.getsockname()[1]}")
        else:
            with policy_server(handler) as url:
                try:
                    ask(url)
                finally:
                    elapsed = time.monotonic() - begin
                    over.set()
    if silent == "before the handshake":
        elapsed = time.monotonic() - begin
    assert elapsed < 4 * TIMEOUT


def test_a_server_that_takes_nothing_costs_no_more_than_the_time_limit():
    """A process that is stopped: the system still takes what fits into its buffers, and then nothing."""
    program = (
        "import os, signal, time; from websockets.sync.server import serve; from vla_sd_ros.serving.wire import pack\n"
        "def stop(c):\n    c.send(pack({})); os.kill(os.getpid(), signal.SIGSTOP); time.sleep(60)\n"
        "with serve(stop, '127.0.0.1', 0, max_size=None) as s:\n"
        "    print(s.socket.getsockname()[1], flush=True); s.serve_forever()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        limit = 2.0
        remote = RemotePolicy(f"ws://127.0.0.1:{int(process.stdout.readline())}", limit)
        begin = time.monotonic()
        with pytest.raises(RemoteError, match="was lost|did not answer"):
            remote.decide(np.zeros((2000, 2000, 3), np.uint8), INSTRUCTION)  # 12 MB, more than the buffers take
        assert time.monotonic() - begin < 4 * limit
        remote.close()
    finally:
        process.kill()
        process.wait()


def test_a_connection_lost_within_a_goal_is_not_made_anew_before_the_next_one():
    connections = []

    def handler(connection):
        connections.append(connection)
        openpi(lambda observation: {"actions": np.array([ACTION])})(connection)

    with policy_server(handler) as url:
        remote = RemotePolicy(url, TIMEOUT)
        progress = remote.begin()
        progress.record(remote.decide(images(1)[0], INSTRUCTION, progress).bins)
        connections[0].close()
        for _ in range(2):
            with pytest.raises(RemoteError, match="was lost"):
                remote.decide(images(1)[0], INSTRUCTION, progress)
        np.testing.assert_allclose(remote.decide(images(1)[0], INSTRUCTION, remote.begin()).action, ACTION)
        assert len(connections) == 2
        remote.close()


@pytest.mark.parametrize("code", [1001, 1011])
def test_a_server_that_stops_between_goals_costs_none(code):
    """The first one answers the next goal's first step by closing; behind the same address there is another by then."""
    connections = []

    def handler(connection):
        connections.append(connection)
        connection.send(pack({}))
        for asked, _ in enumerate(connection):
            if len(connections) == 1 and asked == 1:
                connection.close(code)
                return
            connection.send(pack({"actions": np.array([ACTION])}))

    with policy_server(handler) as url:
        remote = RemotePolicy(url, 5.0)
        remote.decide(images(1)[0], INSTRUCTION, remote.begin())
        if code == 1001:  # going away
            np.testing.assert_allclose(remote.decide(images(1)[0], INSTRUCTION, remote.begin()).action, ACTION)
        else:
            with pytest.raises(RemoteError, match="was lost"):
                remote.decide(images(1)[0], INSTRUCTION, remote.begin())
        assert len(connections) == (2 if code == 1001 else 1)
        remote.close()


def test_close_ends_a_wait_at_once():
    over = threading.Event()

    def handler(connection):
        connection.send(pack({}))
        over.wait(20.0)

    with policy_server(handler) as url:
        remote, told = RemotePolicy(url, 30.0), []

        def decide():
            with pytest.raises(RemoteError) as error:
                remote.decide(images(1)[0], INSTRUCTION)
            told.append(str(error.value))

        thread = threading.Thread(target=decide)
        thread.start()
        time.sleep(0.3)
        begin = time.monotonic()
        remote.close()
        thread.join(5.0)
        assert time.monotonic() - begin < 1.0 and told and "lost" in told[0]
        over.set()


@pytest.mark.parametrize(
    "module, absent",
    [
        ("vla_sd_ros.serving.remote", {"torch", "transformers", "aiohttp", "json_numpy", "rclpy"}),
        ("vla_sd_ros.serving.server", {"rclpy"}),
    ],
)
def test_the_robots_side_needs_no_torch_and_the_servers_no_ros(module, absent):
    program = f"import sys; import {module}; print({absent} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said == "set()\n"
