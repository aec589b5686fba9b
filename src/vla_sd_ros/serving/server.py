# SPDX-License-Identifier: Apache-2.0
"""One port that speaks two protocols: OpenVLA's POST /act, and openpi's websocket on every other path; and what an operator
asks: GET /healthz, /ready and /metrics.

After vla-scripts/deploy.py of openvla/openvla and src/openpi/serving/websocket_policy_server.py of
Physical-Intelligence/openpi, with errors told: an HTTP status and {"error": sentence}, or a text frame with the sentence,
after which the connection goes on.
"""

import asyncio
import contextlib
import json
import logging
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from vla_sd_ros.serving import door as doors
from vla_sd_ros.serving.door import STOP_TIMEOUT, Door, check_key, failure, from_elsewhere, refusal, told
from vla_sd_ros.serving.metrics import Metrics
from vla_sd_ros.serving.requests import BadRequest, Busy, Unready, from_act, from_openpi
from vla_sd_ros.serving.service import PAUSE, ClientEpisode, Service, openpi_answer
from vla_sd_ros.serving.wire import pack, to_json

MAX_MESSAGE = 16 << 20  # bytes
MAX_CLIENTS = 64  # open websockets
MAX_SESSION = 128  # characters of a session's name
IDLE = 60.0  # s without an observation, after which a websocket makes room for another client
HEARTBEAT = 60.0  # s between pings; a client that is silent for half of that is gone
DRAIN = 60.0  # s that running goals have to end
LOOK = 0.1  # s between two looks at which goals still run
SESSION = "X-Session-Id"  # names the episode of a client over POST /act where several share an address, as behind a proxy
OPEN = ("/healthz", "/ready")  # answered without the key: they tell nothing but what a probe must know
ADVICE = "POST observations to /act, or open a websocket as openpi's client does"
TOO_LARGE = f"the request has more than {MAX_MESSAGE >> 20} MiB: send a smaller image"
logger = logging.getLogger(__name__)


def serve(
    load: Callable[[], Service],
    bound: socket.socket,
    key: str,
    listens: Callable[[str], None],
    ready: Callable[[str], None],
    origins: Collection[str] = (),
    drain: float = DRAIN,
) -> None:
    """Answers, while load() makes the service in this thread, the main one, and then until a signal interrupts it.

    SIGTERM drains: no new goals are taken, and those that run have so many seconds to end. Another signal, or a second one, ends at
    once. key: what clients must send as `Authorization: Api-Key KEY`; empty: nothing. listens, ready: called with the address, once
    it listens and once the model is there. origins: web pages that may ask, as a browser names them. Raises what load() raises.
    """
    door, service = Door(), None
    handlers = Handlers(door)
    with _event_loop() as run:
        listening = doors.listening(application(handlers, key, door, origins), door, bound)
        address = run(listening.__aenter__())
        try:
            listens(address)
            service = load()
            try:
                handlers.use(service)
                ready(address)
                while True:
                    time.sleep(LOOK)  # not for ever: a signal that comes just before would not be noticed
            except KeyboardInterrupt as end:
                if getattr(end, "number", signal.SIGINT) == signal.SIGTERM:
                    run(handlers.drain(drain))
        finally:
            run(listening.__aexit__(None, None, None))
            if service:
                service.close()


@contextlib.contextmanager
def _event_loop() -> Iterator[Callable[[Coroutine], Any]]:
    """An event loop in a thread of its own, as a function that waits for a coroutine there."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="http")
    thread.start()

    def run(work: Coroutine) -> Any:
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return future.result()
        finally:
            future.cancel()  # where a signal has ended the wait

    try:
        yield run
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def application(handlers: "Handlers", key: str, door: Door, origins: Collection[str] = ()) -> web.Application:
    """The routes and what surrounds them: whoever may not ask is sent away before anything of the request is read."""
    app = web.Application(
        client_max_size=MAX_MESSAGE,
        middlewares=[door.admit, told(ADVICE, TOO_LARGE, "the model"), handlers.count, from_elsewhere(key, origins), _keyed(key)],
    )
    app.router.add_get("/healthz", handlers.health)
    app.router.add_get("/ready", handlers.ready)
    app.router.add_get("/metrics", handlers.metrics)
    app.router.add_post("/act", handlers.act)
    app.router.add_get("/{path:.*}", handlers.openpi)
    app.on_shutdown.append(handlers.close)
    return app


class Handlers:
    """What answers each route; observations once there is a service."""

    def __init__(self, door: Door, service: Service | None = None):
        self._door, self._metrics = door, Metrics()
        self._clients: dict[web.WebSocketResponse, ClientEpisode] = {}
        self._service: Service | None = None
        if service:
            self.use(service)

    def use(self, service: Service) -> None:
        """The model is loaded."""
        service.metrics = self._metrics  # not those of the decisions that warmed it up
        self._service = service

    @property
    def _state(self) -> str:
        return "loading" if self._service is None else "draining" if self._service.draining else "ok"

    def _loaded(self) -> Service:
        if self._service is None:
            raise Unready("the model is being loaded: ask again when GET /ready answers 200")
        return self._service

    @web.middleware
    async def count(self, request: web.Request, handler: Callable[[web.Request], Awaitable]) -> web.StreamResponse:
        """Notes what is refused and what fails; a probe that is told the truth is neither."""
        try:
            response = await handler(request)
        except Exception as error:
            self._metrics.failed(error)
            raise
        if response.status >= 400 and request.path != "/ready":
            self._metrics.refused(response.status)
        return response

    async def health(self, request: web.Request) -> web.Response:
        """GET /healthz, which answers as long as the process lives: the model, how many actions were decided, how many clients
        are connected."""
        service = self._service
        about = {**service.metadata, "actions": service.actions} if service else {}
        return web.json_response({"status": self._state, **about, "clients": len(self._clients)})

    async def ready(self, request: web.Request) -> web.Response:
        """GET /ready: 200 where new goals are taken, 503 while the model is loaded and while the last goals end."""
        return web.json_response({"status": self._state}, status=200 if self._state == "ok" else 503)

    async def metrics(self, request: web.Request) -> web.Response:
        """GET /metrics, for Prometheus."""
        waiting, goals = (self._service.waiting, self._service.goals) if self._service else (0, 0)
        return self._metrics.page(ready=self._state == "ok", queue_length=waiting, clients=len(self._clients), goals=goals)

    async def act(self, request: web.Request) -> web.Response:
        """POST /act as OpenVLA's own server has it: an observation as JSON, answered with the action (7,)."""
        service, begin = self._loaded(), time.monotonic()
        self._metrics.asked("act")
        encoding = request.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            return refusal(415, f"the body is packed as {encoding[:20]!r}: send it as it is")
        async with self._door.body(request) as body:
            observation, twice = await asyncio.to_thread(from_act, body)
        decision = await service.decide(service.episode_of(_client(request)), observation, PAUSE)
        text = to_json(decision.action)
        self._metrics.answered("act", time.monotonic() - begin, decision)
        return web.Response(text=json.dumps(text) if twice else text, content_type="application/json")

    async def openpi(self, request: web.Request) -> web.StreamResponse:
        """GET of a websocket, at any path: openpi's protocol, an action for each observation."""
        connection = web.WebSocketResponse(max_msg_size=MAX_MESSAGE, compress=False, heartbeat=HEARTBEAT, timeout=STOP_TIMEOUT)
        if not connection.can_prepare(request):
            return refusal(404, f"there is no {request.path[:80]}: {ADVICE}")
        service = self._loaded()
        if service.draining:
            raise Unready("the server is about to stop: connect to another one, or to this one when it is back")
        if len(self._clients) >= MAX_CLIENTS and not await self._make_room():
            return refusal(503, f"{MAX_CLIENTS} clients are connected already: close some, or start another server")
        await connection.prepare(request)
        self._clients[connection] = episode = service.episode()
        logger.info("%s connected, %d clients", request.remote, len(self._clients))
        try:
            await self._converse(connection, service, episode)
        except ConnectionError:
            pass  # the client went while it was being answered
        finally:
            service.left(episode)
            self._clients.pop(connection, None)
            logger.info("%s left, %d clients", request.remote, len(self._clients))
        return connection

    async def _make_room(self) -> bool:
        """Close the client that has asked nothing for longest, if that is long; it connects again when it needs to."""
        connection, episode = min(self._clients.items(), key=lambda entry: entry[1].heard)
        if time.monotonic() - episode.heard < IDLE:
            return False
        del self._clients[connection]
        await connection.close(code=WSCloseCode.TRY_AGAIN_LATER, message=b"idle, and another client needs the place")
        return True

    async def _converse(self, connection: web.WebSocketResponse, service: Service, episode: ClientEpisode) -> None:
        before: dict[str, float] = {}
        await connection.send_bytes(pack(service.metadata))
        async for message in connection:
            begin = time.monotonic()
            self._metrics.asked("openpi")
            try:
                if message.type is not WSMsgType.BINARY:
                    raise BadRequest("this is a text frame: send the observation as msgpack in a binary one")
                observation = await asyncio.to_thread(from_openpi, message.data)
                asked = time.monotonic()
                decision = await service.decide(episode, observation)
            except Exception as error:
                self._metrics.failed(error)
                if isinstance(error, BadRequest | Busy):
                    await connection.send_str(str(error))
                    continue
                if isinstance(error, Unready):
                    await connection.close(code=WSCloseCode.GOING_AWAY, message=str(error).encode())
                    return
                await connection.send_str(failure(error, "the model"))
                await connection.close(code=WSCloseCode.INTERNAL_ERROR, message=b"the model failed")
                return
            answer = openpi_answer(decision)
            answer["server_timing"] = {"infer_ms": 1e3 * (time.monotonic() - asked), **before}
            await connection.send_bytes(pack(answer))
            self._metrics.answered("openpi", time.monotonic() - begin, decision)
            before = {"prev_total_ms": 1e3 * (time.monotonic() - begin)}

    async def drain(self, limit: float) -> None:
        """Take no new goals, and return when those that run are over, or after limit [s]."""
        service, end = self._loaded(), time.monotonic() + limit
        service.draining = True
        logger.info("no new goals; %d run and have %g s", service.goals, limit)
        while service.goals and time.monotonic() < end:
            await self._dismiss([one for one, episode in self._clients.items() if not episode.runs])
            await asyncio.sleep(LOOK)
        if service.goals:
            logger.warning("%d goals did not end in %g s", service.goals, limit)

    async def close(self, app: web.Application) -> None:
        """Close all connections; aiohttp calls it when the server stops."""
        await self._dismiss(list(self._clients))

    @staticmethod
    async def _dismiss(connections: list[web.WebSocketResponse]) -> None:
        """Close these, at the same time, because one may answer nothing any more."""
        await asyncio.gather(
            *(connection.close(code=WSCloseCode.GOING_AWAY, message=b"the server stops") for connection in connections)
        )


def _client(request: web.Request) -> str:
    """The name of who asks over POST /act: the host, with the name of the session where one is sent. BadRequest."""
    session = request.headers.get(SESSION, "")
    if len(session) > MAX_SESSION:
        raise BadRequest(f"{SESSION} has {len(session)} characters, but at most {MAX_SESSION} are allowed")
    return f"{request.remote} {session}"


def _keyed(key: str):
    """Refuses requests without the key."""

    @web.middleware
    async def check(request: web.Request, handler: Callable[[web.Request], Awaitable]) -> web.StreamResponse:
        return (None if request.path in OPEN else check_key(request, key)) or await handler(request)

    return check
