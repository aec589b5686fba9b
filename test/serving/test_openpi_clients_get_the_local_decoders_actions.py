# SPDX-License-Identifier: Apache-2.0
"""openpi's clients get over the websocket exactly the actions of the local decoder, each connection in its own episode.

The package openpi-client is taken as published, where it is installed: it asks for numpy 1 but runs with 2
(pip install --no-deps openpi-client). Without it, the bytes are written here from its source.
"""

import msgpack
import numpy as np
import pytest
from served import INSTRUCTION, images, websocket

pytestmark = pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager")  # the published client


def packed(value):
    """openpi_client/msgpack_numpy.py, pack_array."""
    if isinstance(value, np.ndarray):
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    return value


def unpacked(value):
    """openpi_client/msgpack_numpy.py, unpack_array."""
    if b"__ndarray__" in value:
        return np.ndarray(buffer=value[b"data"], dtype=np.dtype(value[b"dtype"]), shape=value[b"shape"])
    return value


class Wire:
    """What openpi-client's WebsocketClientPolicy does, in its own bytes."""

    def __init__(self, port: int):
        self._connection, metadata = websocket(port)
        self.metadata = msgpack.unpackb(metadata, object_hook=unpacked)

    def infer(self, observation: dict) -> dict:
        self._connection.send(msgpack.packb(observation, default=packed))
        answer = self._connection.recv(30.0)
        if isinstance(answer, str):
            raise RuntimeError(f"Error in inference server:\n{answer}")
        return msgpack.unpackb(answer, object_hook=unpacked)

    def get_server_metadata(self) -> dict:
        return self.metadata

    def close(self) -> None:
        self._connection.close()


def published(port: int):
    """The published client."""
    module = pytest.importorskip("openpi_client.websocket_client_policy", reason="openpi-client is not installed")
    client = module.WebsocketClientPolicy("127.0.0.1", port)
    client.close = client._ws.close
    return client


@pytest.fixture(params=[published, Wire])
def connect(request, server):
    opened = []

    def connect():
        opened.append(request.param(server.port))
        return opened[-1]

    yield connect
    for client in opened:
        client.close()


def observation(image, key: str = "observation/image", prompt=INSTRUCTION) -> dict:
    return {key: image, "observation/state": np.zeros(8), "prompt": prompt}


def test_each_action_of_an_episode(connect, local):
    client, seen = connect(), images(3)
    answers = [client.infer(observation(image)) for image in seen]
    assert answers[0]["actions"].shape == (1, 7)
    np.testing.assert_array_equal(np.concatenate([answer["actions"] for answer in answers]), local.actions(seen))
    assert answers[1]["server_timing"].keys() == {"infer_ms", "prev_total_ms"}


def test_connections_have_their_own_episodes(connect, local):
    clients = [connect(), connect()]
    seen = [images(3), images(3, first=1)]
    answers = [[], []]
    for step in range(3):
        for who in (0, 1):
            answers[who].append(clients[who].infer(observation(seen[who][step]))["actions"][0])
    for who in (0, 1):
        np.testing.assert_array_equal(answers[who], local.actions(seen[who]))
    assert not np.array_equal(answers[0], answers[1])


def test_a_new_connection_and_a_changed_prompt_begin_a_new_episode(connect, local):
    first, second = images(2)
    connect().infer(observation(first))
    client = connect()
    np.testing.assert_array_equal(client.infer(observation(second))["actions"], local.actions([second]))
    other = "place it in the basket"
    np.testing.assert_array_equal(client.infer(observation(first, prompt=other))["actions"], local.actions([first], other))


@pytest.mark.parametrize("key", ["observation/exterior_image_1_left", "image"])
def test_other_keys_of_the_image(connect, local, key):
    seen = images(1)
    np.testing.assert_array_equal(connect().infer(observation(seen[0], key))["actions"], local.actions(seen))


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"observation/image": np.zeros((3, 8, 8), np.uint8)}, "uint8 of shape (3, 8, 8), but must be RGB"),
        ({"observation/image": "seen.png"}, "'observation/image' is of type str, but must be a numpy array"),
        ({"prompt": None}, "'prompt' is not there, or no text"),
        ({"vla_sd": {"step": 4}}, "'step' is 4, but this connection has seen only 0 steps"),
        ({"vla_sd": {"step": 0, "position": [0, 0, 0]}}, "must be arrays of floats"),
    ],
)
def test_wrong_input_is_a_sentence_and_the_connection_goes_on(connect, local, change, sentence):
    client, seen = connect(), images(1)
    with pytest.raises(RuntimeError) as told:
        client.infer(observation(seen[0]) | change)
    assert sentence in str(told.value)
    np.testing.assert_array_equal(client.infer(observation(seen[0]))["actions"], local.actions(seen))


def test_the_metadata_tell_the_units(connect):
    metadata = connect().get_server_metadata()
    assert metadata["server"] == "vla_sd_ros" and "[m]" in metadata["action"] and metadata["unnorm_key"] == "random"
