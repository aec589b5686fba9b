# SPDX-License-Identifier: Apache-2.0
"""Who may hold the server's attention, and for how long: connections that ask nothing, bodies that never end, web pages.

aiohttp waits for ever for the headers of a request, so a thousand half requests would take every file descriptor.
"""
import asyncio
import contextlib
import ipaddress
import resource
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection

from aiohttp import web

from vla_sd_ros.serving.service import Busy

MAX_CONNECTIONS = 512   # open at once; those that ask nothing go first
HEADER_TIMEOUT = 5.0    # s for the headers of a connection's first request
KEPT = 75.0             # s for which a connection may be kept until its next request
BODY_TIMEOUT = 10.0     # s for the body of a request
MAX_BODIES = 8          # bodies that are read at once, each of at most server.MAX_MESSAGE bytes
SWEEP = 0.25            # s between two looks at the connections


class Door:
    """Closes connections that do not come to the point. `watch` runs as long as the server does."""

    def __init__(self):
        self._asking: set[object] = set()  # protocols with a request that has its headers
        self._known: set[object] = set()  # protocols that have asked before
        self._quiet_since: dict[object, float] = {}
        self._bodies = asyncio.Semaphore(MAX_BODIES)

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
        """The request's body, one of a bounded number at a time. TimeoutError when it does not end in time, Busy when others
        do not."""
        try:
            async with asyncio.timeout(BODY_TIMEOUT):
                await self._bodies.acquire()
        except TimeoutError as error:
            raise Busy(f"{MAX_BODIES} requests are being read already: ask again") from error
        try:
            async with asyncio.timeout(BODY_TIMEOUT):
                data = await request.read()
            yield data
        finally:
            self._bodies.release()

    async def watch(self, server: web.Server) -> None:
        """Closes what has been quiet for too long, and the longest quiet where there are too many."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8 * MAX_CONNECTIONS)), hard))
        while True:
            await asyncio.sleep(SWEEP)
            self._sweep(list(server.connections), time.monotonic())

    def _sweep(self, connections: list, now: float) -> None:
        self._known &= set(connections)
        quiet = [connection for connection in connections if connection not in self._asking]
        self._quiet_since = {connection: self._quiet_since.get(connection, now) for connection in quiet}
        surplus = max(0, len(connections) - MAX_CONNECTIONS)
        longest_first = sorted(self._quiet_since, key=lambda connection: (connection in self._known, self._quiet_since[connection]))
        for place, connection in enumerate(longest_first):
            allowed = KEPT if connection in self._known else HEADER_TIMEOUT
            if (place < surplus or now - self._quiet_since[connection] > allowed) and connection.transport is not None:
                connection.transport.abort()


def from_elsewhere(key: str, origins: Collection[str]) -> Callable:
    """A middleware that refuses web pages, whose browser would let them command an arm behind its user's back.

    A browser names the page in Origin. Where there is no key, Host must be an address or localhost: a page can have its own
    name resolved to this machine (DNS rebinding), but not an address.
    """

    @web.middleware
    async def check(request: web.Request, handler: Callable[[web.Request], Awaitable]) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        if origin is not None and origin not in origins:
            raise web.HTTPForbidden(reason=f"web pages of {origin[:80]!r} may not ask; --allow-origin names those that may")
        if not key and not _is_local(request.headers.get("Host", "")):
            raise web.HTTPForbidden(reason="without an API key the server is asked by its address or as localhost, not as "
                                           f"{request.headers.get('Host', '')[:80]!r}")
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
