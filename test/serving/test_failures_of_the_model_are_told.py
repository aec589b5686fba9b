# SPDX-License-Identifier: Apache-2.0
"""A model that fails is a 500 or a text frame and the end of that connection; too many requests are a 503."""

import json

import json_numpy
import numpy as np
import pytest
from served import INSTRUCTION, SETTINGS, Http, Local, images, served_here, websocket
from websockets.exceptions import ConnectionClosedError

from vla_sd_ros.serving import service
from vla_sd_ros.serving.wire import pack, unpack

BODY = json_numpy.dumps({"image": images(1)[0], "instruction": INSTRUCTION})
FRAME = pack({"observation/image": images(1)[0], "prompt": INSTRUCTION})


def test_a_damaged_model_and_the_same_one_repaired(checkpoint):
    local = Local(checkpoint, "prefill_relaxed", SETTINGS)
    weights = local.vla.lm_head.clone()
    with served_here(local) as port:
        client, (connection, _) = Http(port), websocket(port)
        local.vla.lm_head.fill_(float("nan"))
        status, text = client.act(BODY)
        assert status == 500 and "the model failed: the checkpoint gave logits that are not finite" in json.loads(text)["error"]
        connection.send(FRAME)
        assert "the model failed: the checkpoint gave logits that are not finite" in connection.recv(30.0)
        with pytest.raises(ConnectionClosedError) as closed:
            connection.recv(10.0)
        assert closed.value.rcvd.code == 1011

        local.vla.lm_head.copy_(weights)
        expected = local.actions(images(1))[0]
        np.testing.assert_array_equal(json_numpy.loads(client.act(BODY)[1]), expected)
        connection, _ = websocket(port)
        connection.send(FRAME)
        np.testing.assert_array_equal(unpack(connection.recv(30.0))["actions"][0], expected)
        connection.close()
        client.close()


def test_a_full_queue_is_said(local, monkeypatch):
    monkeypatch.setattr(service, "MAX_WAITING", 0)
    with served_here(local) as port:
        client, (connection, _) = Http(port), websocket(port)
        status, text = client.act(BODY)
        assert status == 503 and "requests wait already" in json.loads(text)["error"]
        connection.send(FRAME)
        assert "requests wait already" in connection.recv(10.0)
        connection.close()
        client.close()
