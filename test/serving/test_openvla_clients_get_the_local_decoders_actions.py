# SPDX-License-Identifier: Apache-2.0
"""A plain json-numpy client of OpenVLA's deploy.py gets from POST /act exactly the actions of the local decoder."""

import json

import json_numpy
import numpy as np
import pytest
from served import INSTRUCTION, Http, images


@pytest.fixture
def client(server):
    client = Http(server.port)
    client.act(json_numpy.dumps({"image": images(1)[0], "instruction": "something else"}))  # ends the episode of this host
    yield client
    client.close()


def test_each_action_of_an_episode(client, local):
    seen, answers = images(3), []
    for image in seen:
        status, text = client.act(json_numpy.dumps({"image": image, "instruction": INSTRUCTION}))
        assert status == 200
        answers.append(json_numpy.loads(text))
    assert answers[0].shape == (7,) and answers[0].dtype == np.float64
    np.testing.assert_array_equal(answers, local.actions(seen))


def test_the_twice_encoded_form(client, local):
    seen = images(1)
    inner = json_numpy.dumps({"image": seen[0], "instruction": INSTRUCTION})
    status, text = client.act(json.dumps({"encoded": inner}))
    assert status == 200
    np.testing.assert_array_equal(json_numpy.loads(json.loads(text)), local.actions(seen)[0])


def test_a_changed_instruction_begins_a_new_episode(client, local):
    first, second = images(2)
    for instruction in (INSTRUCTION, "place it in the basket"):
        for image in (first, second):
            status, text = client.act(json_numpy.dumps({"image": image, "instruction": instruction}))
        assert status == 200
        np.testing.assert_array_equal(json_numpy.loads(text), local.actions([first, second], instruction)[1])


@pytest.mark.parametrize("key, status", [("random", 200), (None, 200), ("bridge_orig", 400)])
def test_an_unknown_unnorm_key_is_told_the_known_ones(client, key, status):
    body = json_numpy.dumps({"image": images(1)[0], "instruction": INSTRUCTION, "unnorm_key": key})
    answer = client.act(body)
    assert answer[0] == status
    assert status == 200 or "there are no statistics 'bridge_orig'" in json.loads(answer[1])["error"]


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"image": None}, "'image' is of type NoneType, but must be a numpy array"),
        ({"image": np.zeros((8, 8), np.uint8)}, "but must be RGB, uint8 of shape (height, width, 3)"),
        ({"image": np.zeros((8, 8, 3), np.float32)}, "'image' is float32 of shape (8, 8, 3)"),
        ({"instruction": "  "}, "say in words what the arm shall do"),
        ({"instruction": 3}, "'instruction' is not there, or no text"),
        ({"instruction": "x" * 501}, "501 characters, but at most 500 are allowed"),
        ({"instruction": "a " * 200}, "but at most 128 are read; shorten it"),
        ({"unnorm_key": 3}, "unnorm_key is of type int"),
        ({"encoded": "{}"}, "put everything into the encoded text"),
    ],
)
def test_wrong_input_is_a_400_with_a_sentence(client, change, sentence):
    status, text = client.act(json_numpy.dumps({"image": images(1)[0], "instruction": INSTRUCTION} | change))
    assert status == 400 and sentence in json.loads(text)["error"]


@pytest.mark.parametrize("method, path, status", [("GET", "/act", 404), ("POST", "/", 405), ("GET", "/nowhere", 404)])
def test_a_wrong_path_is_told_the_right_ones(client, method, path, status):
    answer = client.ask(method, path)
    assert answer[0] == status and "POST observations to /act" in json.loads(answer[1])["error"]


def test_healthz_says_what_is_served(client):
    status, text = client.ask("GET", "/healthz")
    said = json.loads(text)
    assert status == 200 and (said["status"], said["checkpoint"], said["decoder"]) == ("ok", "tiny", "prefill_relaxed")
