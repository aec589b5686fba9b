# SPDX-License-Identifier: Apache-2.0
"""Services of ROS, awaited in an asyncio loop while another thread spins the node."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from vla_sd_ros.console import Refused


async def ask(client: Any, request: Any, patience: float, nobody: str) -> Any:
    """The answer of a service. Raises Refused: with `nobody` where none is there, and where none comes within a time [s]."""
    return await answer(lambda: client.call_async(request), client.service_is_ready(), patience, nobody)


async def answer(call: Callable[[], Any], ready: bool, patience: float, nobody: str) -> Any:
    """The same for any `call` that returns a future of rclpy. That thread has the answer first, and hands it to this loop."""
    if not ready:
        raise Refused(nobody)
    loop = asyncio.get_running_loop()
    answered = loop.create_future()

    def take(done: Any) -> None:
        if not answered.done():
            answered.set_result(done.result())

    def deliver(done: Any) -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(take, done)

    call().add_done_callback(deliver)
    try:
        async with asyncio.timeout(patience):
            return await answered
    except TimeoutError as error:
        raise Refused(f"no answer came within {patience:g} s") from error
