# SPDX-License-Identifier: Apache-2.0
"""Who may hold a server's attention, and for how long: connections that ask nothing, bodies that never end, web pages.

What the policy server and the operator's page share, from the address that is listened on to the answer to what goes wrong.

aiohttp waits for ever for the headers of a request, so a thousand half requests would take every file descriptor.
"""

import asyncio
import contextlib
import hmac
import ipaddress
import logging
import resource
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field

from aiohttp import web

from vla_sd_ros.serving.requests import BadRequest, Busy, Unready

MAX_CONNECTIONS = 512  # open at once; those that ask nothing go first
HEADER_TIMEOUT = 5.0  # s for the headers of a connection's first request
KEPT = 75.0  # s for which a connection may be kept until its next request
BODY_TIMEOUT = 10.0  # s for the body of a request
MAX_READ = 128 << 20  # bytes of all bodies that are read, or were and wait for what is made of them
SWEEP = 0.25  # s between two looks at the connections
STOP_TIMEOUT = 2.0  # s for requests that are being answered when the server stops


logger = logging.getLogger(__name__)


def listen(host: str, port: int, key: str) -> socket.socket:
    """A socket bound to the address; port 0: any free one. ValueError where that fails, or is not loopback without a key."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ValueError(f"--host {host!r} is no address of this machine ({error})") from error
    if not key and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise ValueError(
            f"--host {host} can be reached from other machines: give --api-key-file, or keep 127.0.0.1 and use an SSH tunnel"
        )
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise ValueError(f"cannot listen on {host}, port {port} ({error}): choose another --port or --host") from error
    return bound


@contextlib.asynccontextmanager
async def listening(application: web.Application, door: "Door", bound: socket.socket) -> AsyncIterator[str]:
    """Answers while the context lasts, then ends what is under way. As the address."""
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # a traceback for every malformed line of HTTP
    # Nothing is unpacked: 64 kB of gzip can be 64 MB.
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=STOP_TIMEOUT, auto_decompress=False)
    await runner.setup()
    assert runner.server is not None  # setup() has made it
    watch = asyncio.create_task(door.watch(runner.server))
    try:
        await web.SockSite(runner, bound).start()
        host, port = bound.getsockname()[:2]
        yield f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    finally:
        watch.cancel()
        await runner.cleanup()


async def serve_until_signal(
    application: web.Application, door: "Door", bound: socket.socket, ready: Callable[[str], None]
) -> None:
    """Answers until SIGINT or SIGTERM. ready: called with the address."""
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with listening(application, door, bound) as address:
        ready(address)
        await stopping.wait()


@dataclass
class Body:
    """One that is read. limit: until it is whole; given_up: others need its room."""

    data: bytes | bytearray = field(default_factory=bytearray)
    limit: asyncio.Timeout | None = None
    given_up: bool = False


class Door:
    """Closes connections that do not come to the point. `watch` runs as long as the server does."""

    def __init__(self):
        self._asking: set[web.RequestHandler] = set()  # protocols with a request that has its headers
        self._known: set[web.RequestHandler] = set()  # protocols that have asked before
        self._quiet_since: dict[web.RequestHandler, float] = {}
        self._bodies: list[Body] = []  # the oldest first

    @web.middleware
    async def admit(self, request: web.Request, handler: Callable[[web.Request], Awaitable]) -> web.StreamResponse:
        """The outermost middleware: from here to its answer a connection counts as asking."""
        self._asking.add(request.protocol)
        self._known.add(request.protocol)
        try:
            return await handler(request)
        finally:
            self._asking.discard(request.protocol)

    @contextlib.asynccontextmanager
    async def body(self, request: web.Request) -> AsyncIterator[bytes]:
        """The request's body. TimeoutError when it does not end in time, Busy when it takes longer than others that need the room.

        No number of bodies that never end keeps others out: what counts are the bytes that have come.
        """
        body = Body()
        self._bodies.append(body)
        try:
            body.data = await self._read(request, body)
            yield body.data
        finally:
            self._bodies.remove(body)

    async def _read(self, request: web.Request, body: Body) -> bytes:
        data = bytearray()
        body.data = data
        try:
            async with asyncio.timeout(BODY_TIMEOUT) as body.limit:
                while chunk := await request.content.readany():
                    data += chunk
                    if len(data) > request.client_max_size:
                        raise web.HTTPRequestEntityTooLarge(max_size=request.client_max_size, actual_size=len(data))
                    self._make_room()
        except TimeoutError as error:
            if body.given_up:
                raise Busy("too much is being read already, and this body was long on its way: ask again") from error
            raise
        finally:
            body.limit = None
        return bytes(data)

    def _make_room(self) -> None:
        """Give up the bodies that have been coming for longest, as long as there are too many bytes."""
        wanted = [body for body in self._bodies if not body.given_up or body.limit is None]  # one that came whole all the same
        surplus = sum(len(body.data) for body in wanted) - MAX_READ
        for body in wanted:
            if surplus > 0 and body.limit is not None and not body.limit.expired():
                surplus -= len(body.data)
                body.given_up = True
                body.limit.reschedule(asyncio.get_running_loop().time())

    async def watch(self, server: web.Server) -> None:
        """Closes what has been quiet for too long, and the longest quiet where there are too many."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8 * MAX_CONNECTIONS)), hard))
        while True:
            await asyncio.sleep(SWEEP)
            self._sweep(list(server.connections), time.monotonic())

    def _sweep(self, connections: list[web.RequestHandler], now: float) -> None:
        self._known &= set(connections)
        quiet = [connection for connection in connections if connection not in self._asking]
        self._quiet_since = {connection: self._quiet_since.get(connection, now) for connection in quiet}
        surplus = max(0, len(connections) - MAX_CONNECTIONS)
        longest_first = sorted(self._quiet_since, key=lambda connection: (connection in self._known, self._quiet_since[connection]))
        for place, connection in enumerate(longest_first):
            allowed = KEPT if connection in self._known else HEADER_TIMEOUT
            if (place < surplus or now - self._quiet_since[connection] > allowed) and connection.transport is not None:
                connection.transport.abort()


def told(advice: str, too_large: str, what: str, statuses: Mapping[type[Exception], int] | None = None) -> Callable:
    """A middleware that turns whatever goes wrong into a status and {"error": sentence}.

    advice: how to ask. too_large: the sentence about a body that is. what: the part that fails where it is nobody's input.
    statuses: of exceptions whose message is a sentence for the client, beside BadRequest, Busy and Unready.
    """
    known: dict[type[Exception], int] = {BadRequest: 400, Busy: 503, Unready: 503, **(statuses or {})}

    @web.middleware
    async def tell(request: web.Request, handler: Callable[[web.Request], Awaitable]) -> web.StreamResponse:
        try:
            return await handler(request)
        except tuple(known) as error:
            return refusal(next(status for kind, status in known.items() if isinstance(error, kind)), str(error))
        except web.HTTPRequestEntityTooLarge:
            return refusal(413, too_large)
        except web.HTTPMethodNotAllowed:
            return refusal(405, f"{request.path[:80]} does not know {request.method[:20]}: {advice}")
        except web.HTTPException as error:
            return refusal(error.status, f"{error.reason}: {advice}")
        except TimeoutError:
            return refusal(408, f"the body did not come within {BODY_TIMEOUT:g} s: send it again")
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:
            return refusal(500, failure(error, what))

    return tell


def failure(error: Exception, what: str) -> str:
    """The sentence for a failure that is not the client's; the details are for the server's log."""
    logger.error("a request failed", exc_info=error)
    written = isinstance(error, ValueError) and str(error)
    return f"{what} failed: {error if written else type(error).__name__}; the server's log says more"


def refusal(status: int, sentence: str, headers: dict | None = None) -> web.Response:
    """A response that says in one sentence why a request was not served: {"error": sentence}."""
    return web.json_response({"error": sentence}, status=status, headers=headers)


def check_key(request: web.Request, key: str) -> web.Response | None:
    """Refuses a request without the key, in a time that does not depend on how much of it is right."""
    given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
    if not key or hmac.compare_digest(given, f"Api-Key {key}".encode()):
        return None
    return refusal(
        401, "the API key is missing or wrong: send the header 'Authorization: Api-Key ...'", {"WWW-Authenticate": "Api-Key"}
    )


def from_elsewhere(key: str, origins: Collection[str] = (), own_page: bool = False) -> Callable:
    """A middleware that refuses web pages, whose browser would let them command an arm behind its user's back.

    A browser names the page in Origin. Where there is no key, Host must be an address or localhost: a page can have its own
    name resolved to this machine (DNS rebinding), but not an address. own_page: the server has a page itself, which may ask; it
    is the one whose Origin is the Host that is asked.
    """
    advice = "open the console's own page" if own_page else "--allow-origin names those that may"

    @web.middleware
    async def check(request: web.Request, handler: Callable[[web.Request], Awaitable]) -> web.StreamResponse:
        origin, host = request.headers.get("Origin"), request.headers.get("Host")
        own = own_page and origin in (f"http://{host}", f"https://{host}")  # https: of a proxy before it
        if origin is not None and origin not in origins and not own:
            raise web.HTTPForbidden(reason=f"web pages of {origin[:80]!r} may not ask; {advice}")
        if not key and host is not None and not _is_local(host):  # a health check may send none; a browser always does
            raise web.HTTPForbidden(
                reason=f"without an API key the server is asked by its address or as localhost, not as {host[:80]!r}"
            )
        return await handler(request)

    return check


def _is_local(host: str) -> bool:
    name = host[1:].partition("]")[0] if host.startswith("[") else host.rpartition(":")[0] or host
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
