# SPDX-License-Identifier: Apache-2.0
"""One port that speaks two protocols: OpenVLA's POST /act, and openpi's websocket on every other path; and GET /healthz.

After vla-scripts/deploy.py of openvla/openvla and src/openpi/serving/websocket_policy_server.py of
Physical-Intelligence/openpi, with errors told: an HTTP status and {"error": sentence}, or a text frame with the sentence,
after which the connection goes on.
"""
import asyncio
import json
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Collection

from aiohttp import WSCloseCode, WSMsgType, web

from vla_sd_ros.serving.door import Door, check_key, failure, from_elsewhere, refusal, serve_until_signal, told
from vla_sd_ros.serving.requests import BadRequest, Busy, from_act, from_openpi
from vla_sd_ros.serving.service import PAUSE, Service, openpi_answer
from vla_sd_ros.serving.wire import pack, to_json

MAX_MESSAGE = 16 << 20  # bytes
MAX_CLIENTS = 64        # open websockets
IDLE = 60.0             # s without an observation, after which a websocket makes room for another client
HEARTBEAT = 60.0        # s between pings; a client that is silent for half of that is gone
ADVICE = "POST observations to /act, or open a websocket as openpi's client does"
TOO_LARGE = f"the request has more than {MAX_MESSAGE >> 20} MiB: send a smaller image"
logger = logging.getLogger(__name__)


async def serve(service: Service, bound: socket.socket, key: str, ready: Callable[[str], None],
                origins: Collection[str] = ()) -> None:
    """Answers until SIGINT or SIGTERM; then ends what is under way, closes the websockets and returns.

    key: what clients must send as `Authorization: Api-Key KEY`; empty: nothing. ready: called with the address, once it
    listens. origins: web pages that may ask, as a browser names them.
    """
    door = Door()
    await serve_until_signal(application(service, key, door, origins), door, bound, ready)
    service.close()


def application(service: Service, key: str, door: Door, origins: Collection[str] = ()) -> web.Application:
    """The routes and what surrounds them: whoever may not ask is sent away before anything of the request is read."""
    app = web.Application(client_max_size=MAX_MESSAGE,
                          middlewares=[door.admit, told(ADVICE, TOO_LARGE, "the model"), from_elsewhere(key, origins), _keyed(key)])
    handlers = _Handlers(service, door)
    app.router.add_get("/healthz", handlers.health)
    app.router.add_post("/act", handlers.act)
    app.router.add_get("/{path:.*}", handlers.openpi)
    app.on_shutdown.append(handlers.close)
    return app


class _Handlers:
    def __init__(self, service: Service, door: Door):
        self._service, self._door = service, door
        self._clients: dict[web.WebSocketResponse, float] = {}  # when each asked last [s]

    async def health(self, request: web.Request) -> web.Response:
        """GET /healthz: the model, how many actions were decided, how many clients are connected."""
        counts = {"actions": self._service.actions, "clients": len(self._clients)}
        return web.json_response({"status": "ok", **self._service.metadata, **counts})

    async def act(self, request: web.Request) -> web.Response:
        """POST /act as OpenVLA's own server has it: an observation as JSON, answered with the action (7,)."""
        encoding = request.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            return refusal(415, f"the body is packed as {encoding[:20]!r}: send it as it is")
        async with self._door.body(request) as body:
            observation, twice = await asyncio.to_thread(from_act, body)
        episode = self._service.episode_of(request.remote or "")
        decision = await self._service.decide(episode, observation, PAUSE)
        text = to_json(decision.action)
        return web.Response(text=json.dumps(text) if twice else text, content_type="application/json")

    async def openpi(self, request: web.Request) -> web.StreamResponse:
        """GET of a websocket, at any path: openpi's protocol, an action for each observation."""
        connection = web.WebSocketResponse(max_msg_size=MAX_MESSAGE, compress=False, heartbeat=HEARTBEAT)
        if not connection.can_prepare(request):
            return refusal(404, f"there is no {request.path[:80]}: {ADVICE}")
        if len(self._clients) >= MAX_CLIENTS and not await self._make_room():
            return refusal(503, f"{MAX_CLIENTS} clients are connected already: close some, or start another server")
        await connection.prepare(request)
        self._clients[connection] = time.monotonic()
        logger.info("%s connected, %d clients", request.remote, len(self._clients))
        try:
            await self._converse(connection)
        except ConnectionError:
            pass                                # the client went while it was being answered
        finally:
            self._clients.pop(connection, None)
            logger.info("%s left, %d clients", request.remote, len(self._clients))
        return connection

    async def _make_room(self) -> bool:
        """Close the client that has asked nothing for longest, if that is long; it connects again when it needs to."""
        connection, asked = min(self._clients.items(), key=lambda entry: entry[1])
        if time.monotonic() - asked < IDLE:
            return False
        del self._clients[connection]
        await connection.close(code=WSCloseCode.TRY_AGAIN_LATER, message=b"idle, and another client needs the place")
        return True

    async def _converse(self, connection: web.WebSocketResponse) -> None:
        episode = self._service.episode()
        before: dict[str, float] = {}
        await connection.send_bytes(pack(self._service.metadata))
        async for message in connection:
            begin = time.monotonic()
            if connection in self._clients:
                self._clients[connection] = begin
            try:
                if message.type is not WSMsgType.BINARY:
                    raise BadRequest("this is a text frame: send the observation as msgpack in a binary one")
                observation = await asyncio.to_thread(from_openpi, message.data)
                asked = time.monotonic()
                answer = openpi_answer(await self._service.decide(episode, observation))
            except (BadRequest, Busy) as error:
                await connection.send_str(str(error))
                continue
            except Exception as error:
                await connection.send_str(failure(error, "the model"))
                await connection.close(code=WSCloseCode.INTERNAL_ERROR, message=b"the model failed")
                return
            answer["server_timing"] = {"infer_ms": 1e3 * (time.monotonic() - asked), **before}
            await connection.send_bytes(pack(answer))
            before = {"prev_total_ms": 1e3 * (time.monotonic() - begin)}

    async def close(self, app: web.Application) -> None:
        """Close all connections; aiohttp calls it when the server stops."""
        for connection in list(self._clients):
            await connection.close(code=WSCloseCode.GOING_AWAY, message=b"the server stops")


def _keyed(key: str):
    """Refuses requests without the key."""

    @web.middleware
    async def check(request: web.Request, handler: Callable[[web.Request], Awaitable]) -> web.StreamResponse:
        return (None if request.path == "/healthz" else check_key(request, key)) or await handler(request)

    return check
