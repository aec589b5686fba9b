# SPDX-License-Identifier: Apache-2.0
"""The web side of the console: the page, the operators' commands, and a websocket on which each page hears what is new.

Whoever commands shows the token of this process, which only the console's own page can read: it asks for it once, with the API
key where there is one. There are no cookies, so a browser adds nothing by itself to what another site makes it send.
"""

import asyncio
import contextlib
import hmac
import json
import logging
import math
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from vla_sd_ros.console import Refused, recordings
from vla_sd_ros.quoting import quoted
from vla_sd_ros.serving.door import Door, check_key, from_elsewhere, refusal, serve_until_signal, told
from vla_sd_ros.serving.requests import BadRequest

PAGE = Path(__file__).with_name("page")
FILES = {"/": "index.html", "/console.css": "console.css", "/console.js": "console.js", "/plots.js": "plots.js"}
MAX_BODY = 64 << 10  # bytes of a command
MAX_PAGES = 16  # that are open at once
PERIOD = 0.1  # s, between two looks at what is new for a page
TELL_PERIOD = 1.0  # s, after which the state is told though it is the same: a page knows then that it is not old
HEARTBEAT = 10.0  # s between pings; a page that is silent for half of that is gone
MAX_INSTRUCTION = 1000  # characters
MAX_TIME = 3600.0  # s
PROTOCOL = "vla-sd-console"  # of the websocket; the token is offered beside it
ADVICE = "open the page at /"
TOO_LARGE = f"a command has at most {MAX_BODY >> 10} kB"
HEADERS = {
    # Nothing is loaded from elsewhere; and no other site may show the page in a frame and have its buttons clicked.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
logger = logging.getLogger(__name__)


async def serve(robot: Any, runs: Path, bound: socket.socket, key: str, ready: Callable[[str], None]) -> None:
    """Answers until SIGINT or SIGTERM. robot: see Robot. runs: folder of the recordings. ready: called with the address."""
    door = Door()
    await serve_until_signal(application(robot, runs, key, door), door, bound, ready)


def application(robot: Any, runs: Path, key: str, door: Door) -> web.Application:
    """The routes and what surrounds them: whoever may not ask is sent away before anything of the request is read."""
    app = web.Application(
        client_max_size=MAX_BODY,
        middlewares=[door.admit, told(ADVICE, TOO_LARGE, "the console", {Refused: 409}), from_elsewhere(key, own_page=True)],
    )
    console = Console(robot, runs, key, door)
    for path in FILES:
        app.router.add_get(path, console.page)
    app.router.add_post("/session", console.session)
    app.router.add_get("/live", console.live)
    app.router.add_post("/do/{command}", console.do)
    app.router.add_get("/recordings", console.recordings)
    app.router.add_get("/recordings/{run}/{file}", console.recording)
    app.on_response_prepare.append(_add_headers)
    app.on_shutdown.append(console.close)
    return app


class Console:
    """What answers each route."""

    def __init__(self, robot: Any, runs: Path, key: str, door: Door):
        self._robot, self._runs, self._key, self._door = robot, runs, key, door
        self._token = secrets.token_urlsafe(32)
        self._pages: set[web.WebSocketResponse] = set()
        self._commands: dict[str, Callable[[dict, str], Awaitable[str]]] = {
            "start": self._start,
            "stop": self._stop,
            "hold": self._hold,
            "release": self._release,
            "recover": self._recover,
            "mark": self._mark,
            "parameter": self._parameter,
        }

    async def page(self, request: web.Request) -> web.StreamResponse:
        """GET of a file of the page: it holds no secret, and so needs no token."""
        return web.FileResponse(PAGE / FILES[request.path])

    async def session(self, request: web.Request) -> web.Response:
        """The token, for who knows the key."""
        return check_key(request, self._key) or web.json_response({"token": self._token})

    def _check(self, given: str) -> None:
        if not hmac.compare_digest(given.encode(errors="surrogateescape"), self._token.encode()):
            raise web.HTTPUnauthorized(reason="the token of this console is missing or old")

    # Commands

    async def do(self, request: web.Request) -> web.Response:
        """POST /do/COMMAND with JSON; answers what was told to the robot as {"told": sentence}. Needs the token."""
        self._check(request.headers.get("X-Console-Token", ""))
        command = self._commands.get(request.match_info["command"])
        if not command:
            return refusal(
                404, f"there is no command {quoted(request.match_info['command'])}; known are: {', '.join(self._commands)}"
            )
        async with self._door.body(request) as body:
            fields = _fields(body)
        return web.json_response({"told": await command(fields, request.remote or "somebody")})

    async def _start(self, fields: dict, who: str) -> str:
        instruction = _text(fields, "instruction", MAX_INSTRUCTION)
        limit = _number(fields, "time_limit", MAX_TIME)
        sentence = await self._robot.start(instruction, limit)
        self._robot.note("operator", f"started at {who}")
        return sentence

    async def _stop(self, fields: dict, who: str) -> str:
        self._robot.note("operator", f"STOP pressed at {who}")
        return await self._robot.stop()

    async def _hold(self, fields: dict, who: str) -> str:
        self._robot.note("operator", f"HOLD pressed at {who}")
        return await self._robot.hold(True)

    async def _release(self, fields: dict, who: str) -> str:
        sentence = await self._robot.hold(False)
        self._robot.note("operator", f"HOLD released at {who}")
        return sentence

    async def _recover(self, fields: dict, who: str) -> str:
        self._robot.note("operator", f"Recover pressed at {who}")
        return await self._robot.recover()

    async def _mark(self, fields: dict, who: str) -> str:
        success = fields.get("success")
        if not isinstance(success, bool):
            raise BadRequest(f"success must be true or false, not {quoted(str(success))}")
        sentence = await self._robot.mark(success)
        self._robot.note("operator", f"{sentence} at {who}")
        return sentence

    async def _parameter(self, fields: dict, who: str) -> str:
        node, name = _text(fields, "node", 200), _text(fields, "name", 200)
        if "value" not in fields:
            raise BadRequest("value is missing: send what the parameter shall be")
        sentence = await self._robot.set_parameter(node, name, fields["value"])
        self._robot.note("operator", f"{sentence}, set at {who}")
        return sentence

    # What a page hears

    async def live(self, request: web.Request) -> web.StreamResponse:
        """GET /live: the websocket on which a page hears what is new (see _tell_news). The token is its last subprotocol."""
        connection = web.WebSocketResponse(protocols=(PROTOCOL,), max_msg_size=1024, compress=False, heartbeat=HEARTBEAT)
        if not connection.can_prepare(request):
            return refusal(400, "this is no websocket: open the page at /")
        offered = request.headers.get("Sec-WebSocket-Protocol", "").split(",")
        self._check(offered[-1].strip())
        if len(self._pages) >= MAX_PAGES:
            return refusal(503, f"{MAX_PAGES} pages are open already: close some")
        await connection.prepare(request)
        self._pages.add(connection)
        self._robot.viewers = len(self._pages)
        telling = asyncio.create_task(self._tell(connection))
        try:
            async for message in connection:  # a page says nothing; this notices its end
                if message.type is not WSMsgType.PONG:
                    await connection.close(code=WSCloseCode.POLICY_VIOLATION, message=b"commands are POSTed")
        finally:
            telling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await telling
            self._pages.discard(connection)
            self._robot.viewers = len(self._pages)
        return connection

    async def _tell(self, connection: web.WebSocketResponse) -> None:
        """Tells what is new for as long as that works; a page that is told nothing connects again."""
        try:
            await self._tell_news(connection)
        except ConnectionError:
            pass  # the page is gone
        except Exception:
            logger.exception("a page cannot be told what is new")
            await connection.close(code=WSCloseCode.INTERNAL_ERROR, message=b"the console failed")

    async def _tell_news(self, connection: web.WebSocketResponse) -> None:
        """Sends what is new: the state and the steps as text, pictures as binary. A slow page gets fewer of them."""
        state, told_at, tables, step, picture = None, 0.0, -1, 0, 0
        while True:
            now = self._robot.state() | {"operators": len(self._pages)}
            news: dict[str, Any] = {}
            if now != state or time.monotonic() - told_at > TELL_PERIOD:
                news["state"], told_at = now, time.monotonic()
            if now["parameters"] != tables:
                news["tables"] = self._robot.tables()
            if steps := self._robot.steps(step):
                news["steps"] = steps
            if news:
                await connection.send_json(news)
            state, tables, step = now, now["parameters"], steps[-1]["number"] if steps else step
            number, jpeg = self._robot.picture()
            if number != picture:
                picture = number
                await connection.send_bytes(jpeg)
            await asyncio.sleep(PERIOD)

    # Recordings

    async def recordings(self, request: web.Request) -> web.Response:
        """GET /recordings: the folder and its runs, newest first, as JSON. Needs the token."""
        self._check(request.headers.get("X-Console-Token", ""))
        return web.json_response({"folder": str(self._runs), "runs": await asyncio.to_thread(recordings.listed, self._runs)})

    async def recording(self, request: web.Request) -> web.StreamResponse:
        """A file of a run; the token is in the address, for <video> and <a> send no headers."""
        self._check(request.query.get("token", ""))
        path = recordings.file(self._runs, request.match_info["run"], request.match_info["file"])
        return web.FileResponse(path) if path else refusal(404, "there is no such recording")

    async def close(self, app: web.Application) -> None:
        """Close the websockets of all pages; aiohttp calls it when the server stops."""
        for connection in list(self._pages):
            await connection.close(code=WSCloseCode.GOING_AWAY, message=b"the console stops")


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


def _fields(body: bytes) -> dict:
    """The object that a command's body is. BadRequest."""
    try:
        fields = json.loads(body or b"{}", parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is no JSON ({str(error)[:100]})") from error
    if not isinstance(fields, dict):
        raise BadRequest('the body must be an object, such as {"instruction": "put the bowl on the plate"}')
    return fields


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it holds {name}")


def _text(fields: dict, name: str, longest: int) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or len(value) > longest:
        raise BadRequest(f"{name} must be text of at most {longest} characters")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise BadRequest(f"{name} holds half a character") from error
    return value


def _number(fields: dict, name: str, largest: float) -> float:
    """0 where it is not given."""
    value = fields.get(name, 0.0)
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value <= largest
    if not fits:
        raise BadRequest(f"{name} must be a number from 0 to {largest:g}")
    return float(value)
