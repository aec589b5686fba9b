# SPDX-License-Identifier: Apache-2.0
"""One port that speaks two protocols: OpenVLA's POST /act, and openpi's websocket on every other path; and GET /healthz.

After vla-scripts/deploy.py of openvla/openvla and src/openpi/serving/websocket_policy_server.py of
Physical-Intelligence/openpi, with errors told: an HTTP status and {"error": sentence}, or a text frame with the sentence,
after which the connection goes on.
"""
import asyncio
import hmac
import ipaddress
import json
import logging
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Collection

from aiohttp import WSCloseCode, WSMsgType, web

from vla_sd_ros.serving.door import BODY_TIMEOUT, Door, from_elsewhere
from vla_sd_ros.serving.requests import BadRequest, from_act, from_openpi
from vla_sd_ros.serving.service import PAUSE, Busy, Service, openpi_answer
from vla_sd_ros.serving.wire import pack, to_json

MAX_MESSAGE = 16 << 20  # bytes
MAX_CLIENTS = 64        # open websockets
IDLE = 60.0             # s without an observation, after which a websocket makes room for another client
HEARTBEAT = 60.0        # s between pings; a client that is silent for half of that is gone
ADVICE = "POST observations to /act, or open a websocket as openpi's client does"
STOP_TIMEOUT = 2.0      # s for requests that are being answered when the server stops
logger = logging.getLogger(__name__)


def listen(host: str, port: int, key: str) -> socket.socket:
    """A socket bound to the address; port 0: any free one. ValueError where that fails, or is not loopback without a key."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ValueError(f"--host {host!r} is no address of this machine ({error})") from error
    if not key and not ipaddress.ip_address(address[0].partition("%")[0]).is_loopback:
        raise ValueError(f"--host {host} can be reached from other machines: give --api-key-file, or keep 127.0.0.1 and "
                         "use an SSH tunnel")
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise ValueError(f"cannot listen on {host}, port {port} ({error}): choose another --port or --host") from error
    return bound


async def serve(service: Service, bound: socket.socket, key: str, ready: Callable[[str], None],
                origins: Collection[str] = ()) -> None:
    """Answers until SIGINT or SIGTERM; then ends what is under way, closes the websockets and returns.

    key: what clients must send as `Authorization: Api-Key KEY`; empty: nothing. ready: called with the address, once it
    listens. origins: web pages that may ask, as a browser names them.
    """
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # a traceback for every malformed line of HTTP
    door = Door()
    # Nothing is unpacked: 64 kB of gzip can be 64 MB.
    runner = web.AppRunner(application(service, key, door, origins), access_log=None, shutdown_timeout=STOP_TIMEOUT,
                           auto_decompress=False)
    await runner.setup()
    watch = asyncio.create_task(door.watch(runner.server))
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await web.SockSite(runner, bound).start()
    host, port = bound.getsockname()[:2]
    ready(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    await stopping.wait()
    watch.cancel()
    await runner.cleanup()
    service.close()


def application(service: Service, key: str, door: Door, origins: Collection[str] = ()) -> web.Application:
    """The routes and what surrounds them: whoever may not ask is sent away before anything of the request is read."""
    app = web.Application(client_max_size=MAX_MESSAGE,
                          middlewares=[door.admit, _told, from_elsewhere(key, origins), _keyed(key)])
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
        counts = {"actions": self._service.actions, "clients": len(self._clients)}
        return web.json_response({"status": "ok", **self._service.metadata, **counts})

    async def act(self, request: web.Request) -> web.Response:
        encoding = request.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            return _error(415, f"the body is packed as {encoding[:20]!r}: send it as it is")
        async with self._door.body(request) as body:
            observation, twice = await asyncio.to_thread(from_act, body)
        episode = self._service.episode_of(request.remote or "")
        decision = await self._service.decide(episode, observation, PAUSE)
        text = to_json(decision.action)
        return web.Response(text=json.dumps(text) if twice else text, content_type="application/json")

    async def openpi(self, request: web.Request) -> web.StreamResponse:
        connection = web.WebSocketResponse(max_msg_size=MAX_MESSAGE, compress=False, heartbeat=HEARTBEAT)
        if not connection.can_prepare(request):
            return _error(404, f"there is no {request.path[:80]}: {ADVICE}")
        if len(self._clients) >= MAX_CLIENTS and not await self._make_room():
            return _error(503, f"{MAX_CLIENTS} clients are connected already: close some, or start another server")
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
        episode, before = self._service.episode(), {}
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
                await connection.send_str(_failure(error))
                await connection.close(code=WSCloseCode.INTERNAL_ERROR, message=b"the model failed")
                return
            answer["server_timing"] = {"infer_ms": 1e3 * (time.monotonic() - asked), **before}
            await connection.send_bytes(pack(answer))
            before = {"prev_total_ms": 1e3 * (time.monotonic() - begin)}

    async def close(self, app: web.Application) -> None:
        for connection in list(self._clients):
            await connection.close(code=WSCloseCode.GOING_AWAY, message=b"the server stops")


@web.middleware
async def _told(request: web.Request, handler: Callable[[web.Request], Awaitable]) -> web.StreamResponse:
    """Turns whatever goes wrong into a status and a sentence."""
    try:
        return await handler(request)
    except BadRequest as error:
        return _error(400, str(error))
    except Busy as error:
        return _error(503, str(error))
    except web.HTTPRequestEntityTooLarge:
        return _error(413, f"the request has more than {MAX_MESSAGE >> 20} MiB: send a smaller image")
    except web.HTTPMethodNotAllowed:
        return _error(405, f"{request.path[:80]} does not know {request.method[:20]}: {ADVICE}")
    except web.HTTPException as error:
        return _error(error.status, f"{error.reason}: {ADVICE}")
    except TimeoutError:
        return _error(408, f"the body did not come within {BODY_TIMEOUT:g} s: send it again")
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception as error:
        return _error(500, _failure(error))


def _keyed(key: str):
    """Refuses requests without the key, in a time that does not depend on how much of it is right."""
    expected = f"Api-Key {key}".encode()

    @web.middleware
    async def check(request: web.Request, handler: Callable[[web.Request], Awaitable]) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        if key and request.path != "/healthz" and not hmac.compare_digest(given, expected):
            return _error(401, "the API key is missing or wrong: send the header 'Authorization: Api-Key ...'",
                          {"WWW-Authenticate": "Api-Key"})
        return await handler(request)

    return check


def _failure(error: Exception) -> str:
    """The sentence for a failure that is not the client's; the details are for the server's log."""
    logger.error("a request failed", exc_info=error)
    written = isinstance(error, ValueError) and str(error)
    return f"the model failed: {error if written else type(error).__name__}; the server's log says more"


def _error(status: int, sentence: str, headers: dict | None = None) -> web.Response:
    return web.json_response({"error": sentence}, status=status, headers=headers)
