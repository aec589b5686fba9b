# SPDX-License-Identifier: Apache-2.0
"""All bodies that a server reads at once have a bounded number of bytes: the one that has been coming for longest makes room."""

import asyncio
from types import SimpleNamespace

import pytest
from aiohttp import web

from vla_sd_ros.serving import door as module
from vla_sd_ros.serving.door import Door
from vla_sd_ros.serving.requests import Busy


class Request:
    """Of which `come` bytes come, and no more unless it ends."""

    client_max_size = 100

    def __init__(self, come: int, ends: bool = False):
        self._chunks = [b"x" * 10] * (come // 10) + [b""] * ends
        self.content = SimpleNamespace(readany=self._next)

    async def _next(self) -> bytes:
        await asyncio.sleep(0)
        return self._chunks.pop(0) if self._chunks else await asyncio.Event().wait()


@pytest.fixture
def read(monkeypatch):
    """What becomes of bodies that are read at once, of which each begins when those before it have come."""
    monkeypatch.setattr(module, "MAX_READ", 200)
    monkeypatch.setattr(module, "BODY_TIMEOUT", 1.0)

    async def one(door: Door, request: Request) -> object:
        try:
            async with door.body(request) as body:
                await asyncio.sleep(0.1)
                return len(body)
        except (Busy, TimeoutError, web.HTTPException) as error:
            return type(error)

    async def all_of(requests: list[Request]) -> list:
        door, tasks = Door(), []
        for request in requests:
            tasks.append(asyncio.create_task(one(door, request)))
            await asyncio.sleep(0.01)
        told = await asyncio.gather(*tasks)
        assert not door._bodies
        return told

    return lambda *requests: asyncio.run(all_of(list(requests)))


def test_many_that_never_end_keep_nobody_out_as_long_as_they_are_small(read):
    assert read(*[Request(0) for _ in range(100)], Request(90, ends=True)) == [TimeoutError] * 100 + [90]


def test_the_oldest_makes_room(read):
    assert read(Request(90), Request(90), Request(80, ends=True)) == [Busy, TimeoutError, 80]


def test_what_is_whole_is_not_given_up(read):
    assert read(Request(90, ends=True), Request(90, ends=True), Request(90)) == [90, 90, Busy]


def test_one_that_is_too_large_is_refused(read):
    assert read(Request(110), Request(20, ends=True)) == [web.HTTPRequestEntityTooLarge, 20]
