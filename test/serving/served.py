# SPDX-License-Identifier: Apache-2.0
"""A real server process, plain clients of its two protocols, and the local decoder whose actions they must get."""

import asyncio
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import yaml
from websockets.sync.client import connect

INSTRUCTION = "pick up the milk"
PROXY = Path(__file__).parents[2] / "config" / "haproxy.cfg"
# From the second step on this decoder repeats the action before, so an answer tells which history it was made from.
SETTINGS = {"prefill_sources": ["last_action"], "relaxed_radius": 255.0}


def write_settings(folder: Path) -> Path:
    """SETTINGS as the parameter file of a node."""
    file = folder / "decoder.yaml"
    file.write_text(yaml.safe_dump({"/**/vla_node": {"ros__parameters": {"decoder": {"name": "autoregressive", **SETTINGS}}}}))
    return file


def images(count: int, first: int = 0) -> list[np.ndarray]:
    """Images (40, 48, 3) on which the model decides differently."""
    colours = [(255, 0, 0), (0, 255, 0), (255, 255, 255), (0, 0, 255)]
    return [np.full((40, 48, 3), colours[(first + i) % len(colours)], np.uint8) for i in range(count)]


class ServerProcess:
    """`vla-sd serve` with these arguments; its output goes to a file."""

    def __init__(self, arguments: list[str], log: Path):
        self._log = log
        environment = dict(os.environ, PYTHONUNBUFFERED="1")
        with open(log, "wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "vla_sd_ros.cli", "serve", *arguments],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
            )

    @classmethod
    def relaxed(cls, checkpoint: Path, folder: Path, *options: str, log: str = "log") -> "ServerProcess":
        """With SETTINGS, by which an answer depends on the steps before it, on any free port."""
        given = ["--checkpoint", str(checkpoint), "--decoder", "prefill_relaxed", "--settings", str(write_settings(folder))]
        return cls([*given, "--threads", "1", "--port", "0", *options], folder / log)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_until_ready(self) -> None:
        self._wait_for(r"ready: POST http://127\.0\.0\.1:(\d+)/act")

    def wait_until_it_listens(self) -> None:
        self._wait_for(r"loading: GET http://127\.0\.0\.1:(\d+)/ready")

    def _wait_for(self, said: str, timeout: float = 300.0) -> None:
        deadline = time.monotonic() + timeout
        while not (found := re.search(said, self.log)):
            assert self.process.poll() is None and time.monotonic() < deadline, f"not ready:\n{self.log}"
            time.sleep(0.05)
        self.port = int(found[1])

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def goals(self) -> int:
        """How many run there, as /metrics tells."""
        return int(float(Http(self.port).ask("GET", "/metrics")[1].partition("\nvla_sd_goals ")[2].split()[0]))

    @property
    def memory(self) -> int:
        """Resident memory [bytes]."""
        return 1024 * int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())[1])

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15.0)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@contextmanager
def proxied(replicas: Sequence[ServerProcess], folder: Path) -> Iterator[int]:
    """The port of HAProxy with config/haproxy.cfg before two replicas, which it waits for."""
    for replica in replicas:
        replica.wait_until_ready()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    text = PROXY.read_text()
    for old, new in zip((8000, 8001, 8002), (port, *(replica.port for replica in replicas))):
        text = text.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}")
    (folder / "haproxy.cfg").write_text(text)
    proxy = subprocess.Popen(["haproxy", "-f", str(folder / "haproxy.cfg")])
    try:
        deadline = time.monotonic() + 10.0
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert proxy.poll() is None and time.monotonic() < deadline, "HAProxy does not listen"
            time.sleep(0.05)
        yield port
    finally:
        proxy.kill()
        proxy.wait()


class Local:
    """The decoder in this process, asked with a history of its own."""

    def __init__(self, checkpoint: Path, decoder: str, settings: dict):
        from vla_sd_ros.assembly import Choice, Source
        from vla_sd_ros.assembly.local import load
        from vla_sd_ros.decoding.settings import Settings

        self.model, self.choice = load(Source(checkpoint, threads=1)), Choice(decoder, Settings(**settings))
        self.vla = self.model.vla

    def make(self, vla=None):
        """A new decoder over the model, or a seat at it."""
        return self.model.decoder(self.choice.decoder, self.choice.settings, vla)

    def actions(self, seen: list[np.ndarray], instruction: str = INSTRUCTION, poses=None) -> np.ndarray:
        """The actions (n, 7) of one episode with these images, and where the end effector was at each."""
        from vla_sd_ros.decoding.history import History

        decoder, history, actions = self.make(), History(self.vla.statistics), []
        for image, pose in zip(seen, poses or [None] * len(seen)):
            history.see(pose)
            decision = decoder.decide(image, instruction, history)
            history.record(decision.bins)
            actions.append(decision.action)
        return np.array(actions)


@contextmanager
def served_here(local: Local, key: str = "", batch: int = 1) -> Iterator[int]:
    """The port of a server in a thread of this process, which uses the model of `local`."""
    from vla_sd_ros.assembly.local import LocalBrain
    from vla_sd_ros.serving.door import Door
    from vla_sd_ros.serving.server import Handlers, application
    from vla_sd_ros.serving.service import Service

    service, door = Service(local.vla, lambda seat: LocalBrain(local.model, local.choice, seat), batch), Door()
    try:
        with listening(application(Handlers(door, service), key, door)) as port:
            yield port
    finally:
        service.close()


@contextmanager
def listening(app, port: int = 0) -> Iterator[int]:
    """The port of an aiohttp application in a thread of this process; 0: any free one."""
    from aiohttp import web

    loop, runner = asyncio.new_event_loop(), web.AppRunner(app, shutdown_timeout=1.0)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> int:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
        return runner.addresses[0][1]

    try:
        yield asyncio.run_coroutine_threadsafe(start(), loop).result(10.0)
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10.0)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class Http:
    """One connection that is kept."""

    def __init__(self, port: int, headers: dict | None = None):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30.0)
        self._headers = {"Content-Type": "application/json", **(headers or {})}
        self.told: Mapping[str, str] = {}  # headers of the last answer

    def ask(self, method: str, path: str, body: bytes | str | None = None) -> tuple[int, str]:
        """Status and text."""
        self._connection.request(method, path, body, self._headers)
        response = self._connection.getresponse()
        self.told = response.headers
        return response.status, response.read().decode()

    def act(self, body: bytes | str) -> tuple[int, str]:
        return self.ask("POST", "/act", body)

    def close(self) -> None:
        self._connection.close()


def websocket(port: int, key: str = ""):
    """A websocket as openpi_client/websocket_client_policy.py opens it, and the metadata's bytes."""
    headers = {"Authorization": f"Api-Key {key}"} if key else None
    connection = connect(
        f"ws://127.0.0.1:{port}", compression=None, max_size=None, additional_headers=headers, proxy=None
    ).__enter__()
    return connection, connection.recv(10.0)
