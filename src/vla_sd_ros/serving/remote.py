# SPDX-License-Identifier: Apache-2.0
"""A model at the other end of openpi's websocket protocol, as a Brain (assembly/brain.py).

remote = RemotePolicy("ws://gpu:8000", timeout=2.0)      # connects
progress = remote.begin()                                 # of one goal, in place of a History
progress.see(measured)
decision = remote.decide(image, instruction, progress)
progress.record(decision.bins)
"""

import math
import socket
import struct
import time
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI, WebSocketException
from websockets.frames import CloseCode
from websockets.protocol import State
from websockets.sync.client import ClientConnection, connect

from vla_sd_ros.decoding.decision import STAGES, Decision, PassRecord
from vla_sd_ros.kinematics.pose import Pose
from vla_sd_ros.serving.key import read_key
from vla_sd_ros.serving.requests import EXTENSION
from vla_sd_ros.serving.wire import WireError, pack, unpack

GRIPPER_SLACK = 0.1  # by which an opening may miss 0 .. 1


class RemoteError(ConnectionError):
    """The policy server is away, refused, or answered what cannot be used: one sentence."""


class Dismissed(RemoteError):
    """The server stops, and has said so in closing the connection."""


@dataclass
class Progress:
    """How far a goal is, and where the end effector was at its newest image. interrupted: as History's."""

    steps: int = 0
    measured: Pose | None = None
    interrupted: int = -1

    def __len__(self) -> int:
        return self.steps

    def see(self, measured: Pose | None) -> None:
        """A new step begins: the end effector was there when its image was taken."""
        self.measured = measured

    def record(self, bins: np.ndarray) -> None:
        """The step's action was commanded."""
        self.steps += 1

    def interrupt(self) -> None:
        """The arm is held, or its image late."""
        self.interrupted = self.steps


class RemotePolicy:
    """A connection to a policy server. Not thread safe, but for close().

    url: ws://host:port or wss://... timeout [s]: for connecting, for the server to take something of what is sent, and
    for its answer, each. key_file: holds the server's API key; empty: none. image_key: under which the server expects the image.

    The connection lasts from goal to goal; one that was lost is made anew at a goal's first step, never within a goal, because
    the server would have forgotten its beginning. Where a server that stops answers the first step by closing, another one,
    behind the same address, is asked instead. Raises RemoteError, or ValueError for a wrong argument, with one sentence.
    """

    def __init__(self, url: str, timeout: float = 2.0, key_file: str = "", image_key: str = "observation/image"):
        if not url.startswith(("ws://", "wss://")):
            raise ValueError(f"policy.remote is {url!r}, but must be like ws://host:8000")
        self.url, self._timeout, self._image_key = url, timeout, image_key
        self._headers = {"Authorization": f"Api-Key {read_key(key_file)}"} if key_file else None
        self._connection: ClientConnection | None = None
        self.metadata: dict = {}
        self._connect()

    @property
    def name(self) -> str:
        """The decoder's, where the server says it."""
        return str(self.metadata.get("decoder", "remote"))

    def begin(self) -> Progress:
        """Of a new goal."""
        return Progress()

    def check(self, choice: object, changed: Collection[str]) -> None:
        """Raises ValueError where anything has changed: the server has its own."""
        for name in sorted(changed):
            mend = (
                "start the policy server with --unnorm-key"
                if name == "policy.unnorm_key"
                else "the policy server has its own decoder; start it with --decoder and --settings"
            )
            raise ValueError(f"parameter {name!r} has no effect with policy.remote: {mend}")

    def use(self, choice: object) -> None:
        """Nothing: what can change is the server's."""

    def unknown_words(self, instruction: str) -> list[str]:
        """None: only the server knows its words."""
        return []

    def too_long(self, instruction: str) -> str:
        """Nothing: the server refuses what it cannot read."""
        return ""

    def self_test(self) -> str:
        """One line about the server."""
        if not self._ours:
            return f"policy server {self.url}: not vla-sd serve; its actions are taken as [m], [rad] and gripper 0 .. 1"
        said = {name: self.metadata.get(name) for name in ("checkpoint", "device", "decoder", "unnorm_key")}
        return f"policy server {self.url}: " + ", ".join(f"{name} {value}" for name, value in said.items())

    def decide(self, image: np.ndarray, instruction: str, progress: Progress | None = None) -> Decision:
        """The action for image (H, W, 3) uint8 RGB and an instruction; without a progress it is a first step."""
        begin, progress = time.perf_counter(), Progress() if progress is None else progress  # a new one is false
        kept = self._connection is not None and self._connection.state is State.OPEN
        if not kept:
            if len(progress):
                raise RemoteError(f"the connection to the policy server {self.url} was lost during the goal")
            self._connect()
        observation = {self._image_key: np.ascontiguousarray(image), "prompt": instruction}
        if self._ours:
            observation[EXTENSION] = _extension(progress)
        try:
            return self._decision(self._exchange(pack(observation)), begin)
        except Dismissed:
            self.close()
            if len(progress) or not kept:
                raise
            return self.decide(image, instruction, progress)
        except Exception:
            self.close()  # an answer may still come, and would be taken for that of the next question
            raise

    def close(self) -> None:
        """Ends the connection at once; a decide() in another thread raises."""
        connection, self._connection = self._connection, None
        if connection is not None:
            _cut(connection)

    @property
    def _ours(self) -> bool:
        return self.metadata.get("server") == "vla_sd_ros"

    def _connect(self) -> None:
        self.close()
        try:
            connection = connect(
                self.url,
                compression=None,
                max_size=None,
                proxy=None,
                additional_headers=self._headers,
                open_timeout=self._timeout,
                close_timeout=0.1,
            ).__enter__()  # its exit is close()
        except (InvalidURI, ValueError) as error:
            raise ValueError(f"policy.remote is {self.url!r}, but must be like ws://host:8000 ({error})") from error
        except InvalidStatus as error:
            raise RemoteError(f"the policy server {self.url} refused the connection: {_reason(error)}") from error
        except (OSError, WebSocketException) as error:
            raise RemoteError(
                f"no policy server answers at {self.url} ({error or type(error).__name__}): start one with vla-sd serve, or "
                "correct policy.remote"
            ) from error
        # Sending blocks while the other side takes nothing; the system ends that, as websockets has no limit for it.
        seconds, fraction = divmod(self._timeout, 1.0)
        limit = struct.pack("ll", int(seconds), int(1e6 * fraction))
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self._connection = connection
        try:
            self.metadata = _mapping(self._receive(), self.url)
        except Exception:
            self.close()
            raise

    def _open(self) -> ClientConnection:
        connection = self._connection
        if connection is None:
            raise RemoteError(f"the connection to the policy server {self.url} was closed")
        return connection

    def _exchange(self, message: bytes) -> dict:
        connection = self._open()
        self._refuse_what_nobody_asked_for(connection)
        try:
            connection.send(message)
        except (OSError, WebSocketException) as error:
            raise self._lost(error) from error
        return _mapping(self._receive(), self.url)

    def _refuse_what_nobody_asked_for(self, connection: ClientConnection) -> None:
        """A server that answers twice is one answer behind from then on: openpi's answers do not say what they answer."""
        try:
            connection.recv(timeout=0)
        except (TimeoutError, OSError, WebSocketException):
            return  # nothing lies there; whether the connection is lost, sending tells
        raise RemoteError(
            f"the policy server {self.url} answered twice, so that no answer of it can be trusted to be that of the last image: "
            "mend the server"
        )

    def _receive(self) -> bytes | str:
        connection = self._open()
        try:
            return connection.recv(timeout=self._timeout)
        except TimeoutError as error:
            raise RemoteError(
                f"the policy server {self.url} did not answer within {self._timeout:g} s: see what it says, "
                "or raise policy.remote_timeout"
            ) from error
        except (OSError, WebSocketException) as error:
            raise self._lost(error) from error

    def _lost(self, error: Exception) -> RemoteError:
        stops = isinstance(error, ConnectionClosed) and error.rcvd is not None and error.rcvd.code == CloseCode.GOING_AWAY
        return (Dismissed if stops else RemoteError)(f"the connection to the policy server {self.url} was lost ({error})")

    def _decision(self, answer: dict, begin: float) -> Decision:
        """openpi's answer is a chunk of actions (n, 7), of which the first is taken: the next image brings a newer chunk."""
        try:
            action = np.atleast_2d(np.array(answer["actions"], dtype=float))[0]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise RemoteError(f"the policy server {self.url} gave no array of actions") from error
        if action.shape != (7,) or not np.all(np.isfinite(action)):
            raise RemoteError(
                f"the policy server {self.url} gave an action {action.tolist()[:10]}, which is not seven finite numbers"
            )
        if not -GRIPPER_SLACK <= action[6] <= 1.0 + GRIPPER_SLACK:
            raise RemoteError(
                f"the policy server {self.url} gave a gripper opening of {action[6]:.2f}, which does not lie in 0 (closed) .. 1 "
                "(open): its policy has other units"
            )
        action[6] = np.clip(action[6], 0.0, 1.0)
        told = answer.get(EXTENSION) if self._ours else None
        try:
            return _told(action, told or {}, 1e3 * (time.perf_counter() - begin))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RemoteError(f"the policy server {self.url} speaks another version of vla_sd_ros ({error})") from error


def _told(action: np.ndarray, told: dict, elapsed_ms: float) -> Decision:
    """The decision with what the server told of it. The total is what it took here, the network with it."""
    times = {stage: float(told.get("timings_ms", {}).get(stage, 0.0)) for stage in STAGES}
    return Decision(
        bins=np.array(told.get("bins", [0] * 7), int),
        action=action,
        decoder=str(told.get("decoder", "remote")),
        path=str(told.get("path", "remote")),
        timings_ms={**times, "total": elapsed_ms},
        passes=tuple(PassRecord(*record) for record in told.get("passes", ())),
        threshold=float(told.get("threshold", 0.0)),
        fused_metric=float(told.get("fused_metric", math.nan)),
    )


def _extension(progress: Progress) -> dict:
    entry: dict[str, bool | int | np.ndarray] = {"step": len(progress), "follows": progress.interrupted != len(progress)}
    if progress.measured is not None:
        entry |= {
            "position": np.asarray(progress.measured.position, float),
            "rotation": np.asarray(progress.measured.rotation, float),
        }
    return entry


def _mapping(message: bytes | str, url: str) -> dict:
    if isinstance(message, str):  # openpi's servers send a traceback, ours a sentence
        last = (message.strip() or "an empty text").splitlines()[-1]
        raise RemoteError(f"the policy server {url} refused: {last[:300]}")
    try:
        value = unpack(message)
    except WireError as error:
        raise RemoteError(f"{url} does not speak openpi's protocol: {error}") from error
    if not isinstance(value, dict):
        raise RemoteError(f"{url} does not speak openpi's protocol: it sent a {type(value).__name__} instead of a map")
    return value


def _reason(error: InvalidStatus) -> str:
    hint = "; name its key in policy.remote_key_file" if error.response.status_code == 401 else ""
    body = (error.response.body or b"").decode(errors="replace")[:200].strip()
    return f"HTTP {error.response.status_code} {body}{hint}"


def _cut(connection: ClientConnection) -> None:
    """Without the closing handshake, for which a server that hangs would be waited for."""
    try:
        connection.socket.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it is closed already
    connection.close()
