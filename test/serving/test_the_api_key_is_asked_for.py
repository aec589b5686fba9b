# SPDX-License-Identifier: Apache-2.0
"""With a key nobody decides without it; without one the server can be reached from its own machine alone."""

import json

import json_numpy
import numpy as np
import pytest
from served import INSTRUCTION, Http, images, served_here, websocket
from websockets.exceptions import InvalidStatus

from vla_sd_ros.cli import main
from vla_sd_ros.serving.remote import RemoteError, RemotePolicy

KEY = "correct-horse-battery-staple"


@pytest.fixture(scope="module")
def guarded(local):
    """Port of a server with a key, and the decoder that it must agree with."""
    with served_here(local, KEY) as port:
        yield port, local


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"Authorization": "Api-Key "},
        {"Authorization": f"Api-Key {KEY}x"},
        {"Authorization": KEY},
        {"Authorization": f"api-key {KEY}"},
        {"X-Api-Key": KEY},
    ],
)
def test_act_refuses_a_missing_or_wrong_key(guarded, header):
    client = Http(guarded[0], header)
    status, text = client.act(json_numpy.dumps({"image": images(1)[0], "instruction": INSTRUCTION}))
    assert status == 401 and "Authorization: Api-Key" in json.loads(text)["error"]
    assert client.ask("GET", "/healthz")[0] == 200
    client.close()


def test_act_takes_the_right_key(guarded):
    port, local = guarded
    client = Http(port, {"Authorization": f"Api-Key {KEY}"})
    status, text = client.act(json_numpy.dumps({"image": images(1)[0], "instruction": INSTRUCTION}))
    assert status == 200
    np.testing.assert_array_equal(json_numpy.loads(text), local.actions(images(1))[0])
    client.close()


@pytest.mark.parametrize("key", ["", "wrong"])
def test_the_websocket_refuses_a_missing_or_wrong_key(guarded, key):
    with pytest.raises(InvalidStatus) as refused:
        websocket(guarded[0], key)
    assert refused.value.response.status_code == 401


def test_vla_nodes_client_reads_its_key_from_a_file(guarded, tmp_path):
    port, local = guarded
    (tmp_path / "key").write_text(f"{KEY}\n")
    remote = RemotePolicy(f"ws://127.0.0.1:{port}", 30.0, str(tmp_path / "key"))
    np.testing.assert_array_equal(remote.decide(images(1)[0], INSTRUCTION).action, local.actions(images(1))[0])
    remote.close()
    with pytest.raises(RemoteError, match="HTTP 401 .*policy.remote_key_file"):
        RemotePolicy(f"ws://127.0.0.1:{port}")
    (tmp_path / "key").write_text("\n")
    with pytest.raises(ValueError, match="holds no API key"):
        RemotePolicy(f"ws://127.0.0.1:{port}", 2.0, str(tmp_path / "key"))


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_other_hosts_than_loopback_need_a_key(capsys, host):
    assert main(["serve", "--host", host, "--port", "0"]) == 2
    assert "can be reached from other machines: give --api-key-file" in capsys.readouterr().err


def test_a_key_allows_them(tmp_path):
    from vla_sd_ros.serving.door import listen

    listen("0.0.0.0", 0, KEY).close()
    listen("localhost", 0, "").close()


def test_bad_starts_are_one_sentence(capsys, tmp_path, guarded, checkpoint):
    for arguments, sentence in (
        (["--port", str(guarded[0])], f"cannot listen on 127.0.0.1, port {guarded[0]}"),
        (["--port", "0", "--host", "no.such.host.invalid"], "is no address of this machine"),
        (["--port", "0", "--api-key-file", str(tmp_path / "absent")], "the API key cannot be read"),
        (["--port", "0", "--decoder", "oracle"], "unknown decoder 'oracle': choose one of autoregressive"),
        (
            ["--port", "0", "--decoder", "retrieval_only", "--checkpoint", str(checkpoint)],
            "decoder 'retrieval_only' needs a database: set policy.database",
        ),
        (["--port", "0", "--checkpoint", "absent"], "checkpoint 'absent' was not found"),
    ):
        assert main(["serve", *arguments]) == 2
        said = capsys.readouterr().err
        assert sentence in said and said.count("\n") == 1
