# SPDX-License-Identifier: Apache-2.0
"""The web side of the console before a robot that only notes what it is asked, and what asks it as browsers and others do."""

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from served import listening
from websockets.sync.client import connect

from vla_sd_ros.console import Refused
from vla_sd_ros.console.web import PROTOCOL, application
from vla_sd_ros.serving.door import Door


def ready() -> dict:
    """What Robot.state() is of a system that waits for a goal."""
    return {
        "namespace": "/vla",
        "vla": {
            "there": True,
            "problem": "",
            "state": "active",
            "level": 0,
            "message": "active",
            "decoder": "fused",
            "checkpoint": "libero",
        },
        "arm": {
            "there": True,
            "problem": "",
            "moving": False,
            "code": 1,
            "name": "NO_COMMAND",
            "message": "no goal is running",
            "held": False,
            "recover": False,
            "fault": False,
            "clipped": 0,
            "refused": 0,
            "gripper": "open",
            "gripper_message": "",
            "dry_run": False,
        },
        "camera": {"there": True, "topic": "/vla/image", "problem": ""},
        "goal": None,
        "last": None,
        "starting": False,
        "sentences": ["pick up the milk and place it in the basket"],
        "events": [],
        "parameters": 1,
    }


def step(number: int, path: str = "draft") -> dict:
    return {
        "number": number,
        "step": number,
        "decoder": "fused",
        "path": path,
        "accepted": number % 8,
        "passes": 1,
        "threshold": 0.0,
        "metric": None,
        "stages": [4.0, 3.0, 1.0, 2.0],
        "total": 11.0 + number % 3,
        "late": 20.0,
    }


class NotingRobot:
    """As Robot, without ROS: `asked` has what reached it, `shown`, `known`, `decoded` and `seen` are what it tells."""

    def __init__(self):
        self.asked: list[tuple] = []
        self.notes: list[tuple[str, str]] = []
        self.viewers, self.refusal = 0, ""
        self.shown, self.known = ready(), {"vla": [], "arm": []}
        self.decoded = [step(n) for n in range(1, 4)]
        self.seen = simplejpeg.encode_jpeg(np.full((48, 64, 3), (200, 30, 30), np.uint8))

    def state(self) -> dict:
        return dict(self.shown)

    def tables(self) -> dict:
        return self.known

    def steps(self, since: int) -> list[dict]:
        return [one for one in self.decoded if one["number"] > since]

    def picture(self) -> tuple[int, bytes]:
        return 1, self.seen

    def note(self, kind: str, text: str) -> None:
        self.notes.append((kind, text))

    async def _note(self, *asked: Any) -> str:
        self.asked.append(asked)
        if self.refusal:
            raise Refused(self.refusal)
        return f"done: {asked[0]}"

    async def start(self, instruction: str, time_limit: float) -> str:
        return await self._note("start", instruction, time_limit)

    async def stop(self) -> str:
        return await self._note("stop")

    async def hold(self, hold: bool) -> str:
        return await self._note("hold", hold)

    async def recover(self) -> str:
        return await self._note("recover")

    async def mark(self, success: bool) -> str:
        return await self._note("mark", success)

    async def set_parameter(self, node: str, name: str, value: Any) -> str:
        return await self._note("parameter", node, name, value)


class Operator:
    """One HTTP connection. headers: beside Host and the token."""

    def __init__(self, port: int, **headers: str):
        self.port, self.token, self.headers = port, "", headers
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30.0)

    def ask(self, method: str, path: str, body: bytes | str | None = None, **headers: str) -> tuple[int, bytes]:
        """Status and body. A header's name has _ for -."""
        given = {"X-Console-Token": self.token} | self.headers | {name.replace("_", "-"): v for name, v in headers.items()}
        self._connection.request(method, path, body, given)
        response = self._connection.getresponse()
        self.answered = response.headers
        return response.status, response.read()

    def open(self, **headers: str) -> "Operator":
        status, body = self.ask("POST", "/session", **headers)
        assert status == 200, body
        self.token = json.loads(body)["token"]
        return self

    def do(self, command: str, fields: Any = None, **headers: str) -> tuple[int, str]:
        """Status and sentence."""
        body = fields if isinstance(fields, (bytes, str)) else json.dumps({} if fields is None else fields)
        status, answer = self.ask("POST", f"/do/{command}", body, **headers)
        told = json.loads(answer)
        return status, told.get("told") or told["error"]

    def close(self) -> None:
        self._connection.close()


@contextmanager
def console(robot: NotingRobot, runs: Path, key: str = "", port: int = 0) -> Iterator[int]:
    """The port of the console's web side, in a thread of this process; 0: any free one."""
    with listening(application(robot, runs, key, Door()), port) as port:
        yield port


def live(port: int, token: str, **options: Any):
    """The websocket of a page."""
    return connect(
        f"ws://127.0.0.1:{port}/live", subprotocols=[PROTOCOL, token] if token else None, compression=None, proxy=None, **options
    )
