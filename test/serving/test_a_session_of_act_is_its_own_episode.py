# SPDX-License-Identifier: Apache-2.0
"""Clients of POST /act that share an address, as behind a proxy, have an episode each where they name their session."""

import json

import json_numpy
import numpy as np
from served import INSTRUCTION, Http, images


def test_two_sessions_of_one_host(server, local):
    seen, answers = (images(3), images(3, first=1)), ([], [])
    clients = [Http(server.port, {"X-Session-Id": f"robot {who}"}) for who in (0, 1)]
    for step in range(3):
        for who in (0, 1):
            status, text = clients[who].act(json_numpy.dumps({"image": seen[who][step], "instruction": INSTRUCTION}))
            assert status == 200
            answers[who].append(json_numpy.loads(text))
    for who in (0, 1):
        np.testing.assert_array_equal(answers[who], local.actions(seen[who]))


def test_a_name_has_an_end(server):
    client = Http(server.port, {"X-Session-Id": "x" * 129})
    status, text = client.act(json_numpy.dumps({"image": images(1)[0], "instruction": INSTRUCTION}))
    assert status == 400 and "X-Session-Id has 129 characters, but at most 128 are allowed" in json.loads(text)["error"]
