# SPDX-License-Identifier: Apache-2.0
"""Whatever is sent to the console, it is refused in a sentence, does not reach the robot, and the next operator is answered."""

import json
import random
import socket
import time
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from operators import NotingRobot, Operator, console, live
from websockets.exceptions import ConnectionClosed, InvalidStatus

NESTED = "[" * 50_000
COMMANDS = ("start", "stop", "hold", "release", "mark", "parameter")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    robot = NotingRobot()
    with console(robot, runs) as port:
        operator = Operator(port).open()
        yield robot, port, operator
        operator.close()


@pytest.fixture(autouse=True)
def forget(served):
    served[0].asked.clear()


@pytest.mark.parametrize(
    "command, body, words",
    [
        ("start", "", "instruction must be text"),
        ("start", "{", "no JSON"),
        ("start", "[]", "must be an object"),
        ("start", "null", "must be an object"),
        ("start", NESTED, "no JSON"),
        ("start", b"\xff\xfe\x00", "no JSON"),
        ("start", {"instruction": 5}, "instruction must be text"),
        ("start", {"instruction": "x" * 1001}, "at most 1000 characters"),
        ("start", '{"instruction": "\\ud800"}', "half a character"),
        ("start", {"instruction": "pick", "time_limit": "long"}, "time_limit must be a number"),
        ("start", {"instruction": "pick", "time_limit": -1}, "time_limit must be a number"),
        ("start", {"instruction": "pick", "time_limit": True}, "time_limit must be a number"),
        ("start", '{"instruction": "pick", "time_limit": NaN}', "it holds NaN"),
        ("start", '{"instruction": "pick", "time_limit": 1e999}', "time_limit must be a number"),
        ("mark", {}, "success must be true or false"),
        ("mark", {"success": "yes"}, "success must be true or false"),
        ("parameter", {"node": "vla", "name": "decoder.name"}, "value is missing"),
        ("parameter", {"node": 1, "name": "decoder.name", "value": 1}, "node must be text"),
        ("parameter", '{"node": "vla", "name": "control_period", "value": Infinity}', "it holds Infinity"),
    ],
)
def test_malformed_commands_are_one_sentence(served, command, body, words):
    robot, _, operator = served
    status, told = operator.do(command, body)
    assert status == 400 and words in told and "\n" not in told
    assert robot.asked == []


def test_what_is_too_large_is_one_sentence(served):
    status, told = served[2].do("start", {"instruction": "x" * 70_000})
    assert status == 413 and "at most 64 kB" in told


@pytest.mark.parametrize(
    "method, path, status",
    [
        ("GET", "/do/hold", 405),
        ("PUT", "/do/hold", 405),
        ("DELETE", "/", 405),
        ("POST", "/do/fly", 404),
        ("GET", "/nowhere", 404),
        ("GET", "/live", 400),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/%2e%2e/console.py", 404),
        ("GET", "/command.py", 404),
    ],
)
def test_other_paths_and_methods_are_one_sentence(served, method, path, status):
    answered, body = served[2].ask(method, path)
    assert answered == status and json.loads(body)["error"]
    assert served[0].asked == []


def test_a_refusal_of_the_robot_is_a_sentence(served):
    robot, _, operator = served
    robot.refusal = "the arm is held: release it first"
    try:
        assert operator.do("start", {"instruction": "pick up the milk"}) == (409, "the arm is held: release it first")
    finally:
        robot.refusal = ""


@given(
    fields=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from(["instruction", "time_limit", "success", "node", "name", "value", "x"]), inner)
        ),
        max_leaves=10,
    ),
    command=st.sampled_from(COMMANDS),
)
def test_any_json_is_done_or_refused_in_a_sentence(served, fields, command):
    status, told = served[2].do(command, json.dumps(fields))
    assert status in (200, 400) and told


def test_a_thousand_malformed_requests_do_not_end_it(served):
    """Among them lines that are no HTTP, bodies that break off, websockets that talk nonsense."""
    robot, port, operator = served
    draw = random.Random(0)
    kinds = [
        lambda: draw.randbytes(draw.randrange(1, 400)),
        lambda: b"POST /do/hold HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999\r\n\r\n{",
        lambda: b"POST /do/hold HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        lambda: (
            b"GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA\r\n\r\n" + draw.randbytes(20)
        ),
        lambda: (
            b"POST /do/" + draw.randbytes(8).hex().encode() + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"X-Console-Token: " + draw.randbytes(8).hex().encode() + b"\r\nContent-Length: 2\r\n\r\n{}"
        ),
        lambda: b"GET /recordings/" + b"%2e%2e%2f" * draw.randrange(9) + b"x HTTP/1.1\r\nHost: " + b"a" * 300 + b"\r\n\r\n",
    ]
    begin = time.monotonic()
    for number in range(1000):
        with socket.create_connection(("127.0.0.1", port), timeout=5.0) as connection:
            connection.sendall(kinds[number % len(kinds)]())
    with live(port, operator.token) as page:
        page.recv(5.0)
        page.send("hold")
        with pytest.raises(ConnectionClosed):
            while True:
                page.recv(5.0)
    assert robot.asked == []
    assert operator.do("hold") == (200, "done: hold") and robot.asked == [("hold", True)]
    assert time.monotonic() - begin < 60.0


def test_a_page_hears_state_steps_and_pictures_and_leaves_no_trace(served):
    robot, port, operator = served
    with live(port, operator.token) as page, live(port, operator.token) as other:
        news = json.loads(page.recv(5.0))
        assert news["state"]["operators"] >= 1 and [step["number"] for step in news["steps"]] == [1, 2, 3]
        assert page.recv(5.0).startswith(b"\xff\xd8\xff")
        assert json.loads(other.recv(5.0))["tables"] == {"vla": [], "arm": []}
        while json.loads(page.recv(5.0))["state"]["operators"] != 2:
            pass
        assert robot.viewers == 2
    deadline = time.monotonic() + 5.0
    while robot.viewers:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_seventeen_pages_are_too_many(served):
    _, port, operator = served
    with ExitStack() as pages:
        for _ in range(16):
            pages.enter_context(live(port, operator.token))
        with pytest.raises(InvalidStatus, match="503"):
            live(port, operator.token)
