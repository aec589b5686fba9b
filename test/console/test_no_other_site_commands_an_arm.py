# SPDX-License-Identifier: Apache-2.0
"""What a page of another site makes a browser send never reaches the robot; nor what comes without key or token."""

import json

import pytest
from operators import NotingRobot, Operator, console, live
from websockets.exceptions import InvalidStatus

from vla_sd_ros.cli import main

KEY = "correct-horse-battery-staple"


@pytest.fixture(params=["", KEY], ids=["loopback", "key"])
def served(request, tmp_path):
    """The robot, the port, an operator whose page is open, and the key."""
    robot = NotingRobot()
    with console(robot, tmp_path, request.param) as port:
        operator = Operator(port).open(**authorized(request.param))
        yield robot, port, operator, request.param
        operator.close()


def authorized(key: str) -> dict[str, str]:
    return {"Authorization": f"Api-Key {key}"} if key else {}


def test_the_own_page_commands(served):
    robot, port, operator, _ = served
    assert operator.do("hold", Origin=f"http://127.0.0.1:{port}") == (200, "done: hold")
    with live(port, operator.token, origin=f"http://127.0.0.1:{port}") as page:
        assert json.loads(page.recv(5.0))["state"]
    assert robot.asked == [("hold", True)]


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "",
        "http://127.0.0.1",
        "http://localhost:1",
        "http://127.0.0.1:{port}.evil.example",
        "http://evil.example:{port}",
        "file://",
    ],
)
@pytest.mark.parametrize("command", ["start", "stop", "hold", "release", "recover", "mark", "parameter"])
def test_a_page_of_another_site_is_refused_even_with_the_token(served, origin, command):
    robot, port, operator, _ = served
    status, told = operator.do(command, {"instruction": "pick up the milk"}, Origin=origin.format(port=port))
    assert status == 403 and "may not ask" in told
    assert robot.asked == []


def test_a_page_of_another_site_gets_no_token_and_hears_nothing(served):
    robot, port, operator, key = served
    assert operator.ask("POST", "/session", Origin="https://evil.example", **authorized(key))[0] == 403
    with pytest.raises(InvalidStatus) as refused:
        live(port, operator.token, origin="https://evil.example")
    assert refused.value.response.status_code == 403
    assert operator.ask("GET", f"/recordings/run/video.mp4?token={operator.token}", Origin="https://evil.example")[0] == 403


def test_no_answer_lets_another_site_read_or_frame_it(served):
    _, _, operator, key = served
    for method, path in (("GET", "/"), ("GET", "/console.js"), ("POST", "/session"), ("POST", "/do/hold"), ("GET", "/nowhere")):
        operator.ask(method, path, "{}" if method == "POST" else None, **authorized(key))
        assert operator.answered["X-Frame-Options"] == "DENY"
        assert "frame-ancestors 'none'" in operator.answered["Content-Security-Policy"]
        assert not [name for name in operator.answered if name.lower().startswith("access-control")]
        assert "Set-Cookie" not in operator.answered


@pytest.mark.parametrize("token", ["", "wrong", "ü" * 40])
def test_nothing_is_done_without_the_token(served, token):
    robot, port, operator, _ = served
    for command in ("start", "stop", "hold", "release", "mark", "parameter"):
        assert operator.do(command, {"success": True}, X_Console_Token=token.encode().decode("latin-1"))[0] == 401
    assert robot.asked == []
    assert operator.ask("GET", "/recordings", X_Console_Token="")[0] == 401
    assert operator.ask("GET", "/recordings/run/video.mp4?token=wrong")[0] == 401
    for offered in ("", "wrong"):
        with pytest.raises(InvalidStatus) as refused:
            live(port, offered)
        assert refused.value.response.status_code == 401


def test_a_name_that_another_site_had_resolved_to_this_machine_is_refused(tmp_path):
    robot = NotingRobot()
    with console(robot, tmp_path) as port:
        operator = Operator(port).open()
        for host in ("evil.example", f"evil.example:{port}", f"localhost.evil.example:{port}"):
            assert operator.do("hold", Host=host)[0] == 403
            assert operator.do("hold", Host=host, Origin=f"http://{host}")[0] == 403
            assert operator.ask("GET", "/", Host=host)[0] == 403
        assert operator.do("hold", Host=f"localhost:{port}", Origin=f"http://localhost:{port}")[0] == 200
        operator.close()
    assert robot.asked == [("hold", True)]


@pytest.mark.parametrize("header", ["", "Api-Key ", f"Api-Key {KEY}x", KEY, f"api-key {KEY}", "Api-Key \xff"])
def test_a_wrong_key_gets_no_token(tmp_path, header):
    with console(NotingRobot(), tmp_path, KEY) as port:
        stranger = Operator(port)
        status, body = stranger.ask("POST", "/session", **({"Authorization": header} if header else {}))
        assert status == 401 and "Authorization: Api-Key" in json.loads(body)["error"]
        assert stranger.ask("GET", "/")[0] == 200, "the page itself, which asks for the key"
        stranger.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_other_hosts_than_loopback_need_a_key(capsys, host):
    assert main(["console", "--host", host, "--port", "0"]) == 2
    told = capsys.readouterr().err
    assert "can be reached from other machines: give --api-key-file" in told and told.count("\n") == 1


def test_bad_starts_are_one_sentence(capsys, tmp_path):
    with console(NotingRobot(), tmp_path) as port:
        for arguments, sentence in (
            (["--port", str(port)], f"cannot listen on 127.0.0.1, port {port}"),
            (["--port", "0", "--host", "no.such.host.invalid"], "is no address of this machine"),
            (["--port", "0", "--api-key-file", str(tmp_path / "absent")], "the API key cannot be read"),
        ):
            assert main(["console", *arguments]) == 2
            said = capsys.readouterr().err
            assert sentence in said and said.count("\n") == 1
