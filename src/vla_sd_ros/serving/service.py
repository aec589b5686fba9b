# SPDX-License-Identifier: Apache-2.0
"""One loaded policy for many clients: each has its own decoder and history, all share one inference thread."""
import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import numpy as np

from vla_sd_ros.decoding.decision import Decision
from vla_sd_ros.decoding.history import History
from vla_sd_ros.policy.vla import Vla
from vla_sd_ros.serving.requests import EXTENSION, BadRequest, Observation

MAX_WAITING = 32        # requests for the inference thread, the running one among them
MAX_PEERS = 256         # hosts whose episodes over POST /act are remembered
MAX_STEPS = 100_000     # of an episode, as many as a goal of vla_node may have
PAUSE = 10.0            # s without a request after which POST /act begins a new episode
ACTION = "x, y, z [m], roll, pitch, yaw [rad] of one step, base axes; gripper 0 closed .. 1 open"


class Busy(RuntimeError):
    """More requests wait than the server can answer in time; one sentence."""


class Episode:
    """One client's state. A decoder of its own, because decoders learn from step to step."""

    def __init__(self, decoder, statistics):
        self.decoder, self._statistics = decoder, statistics
        self._history, self._instruction, self._used = History(statistics), "", 0.0

    def history_for(self, observation: Observation, pause: float = float("inf")) -> History:
        """The history that the observation continues: a new one at step 0, for another instruction, or after a pause [s].

        Actions that the client says it has not executed are forgotten. BadRequest where it names a step that never was.
        """
        now = time.monotonic()
        new = observation.step == 0 or observation.instruction != self._instruction or now - self._used > pause
        if new or len(self._history) >= MAX_STEPS:
            self._history = History(self._statistics)
        self._instruction, self._used, step = observation.instruction, now, observation.step
        if step is not None and step > len(self._history):
            raise BadRequest(f"'step' is {step}, but this connection has seen only {len(self._history)} steps of the "
                             "episode: begin a new one with step 0")
        if step is not None:
            del self._history.bins[step:]
        return self._history


class Service:
    """Decides for all clients, one at a time.

    make_decoder: a new decoder over vla, for each client.
    """

    def __init__(self, vla: Vla, make_decoder: Callable):
        self._vla, self._make_decoder = vla, make_decoder
        self._thread = ThreadPoolExecutor(1, "inference")
        self._peers: OrderedDict[str, Episode] = OrderedDict()
        self._waiting = 0
        self.actions = 0        # decided so far
        self.metadata = {"server": "vla_sd_ros", "checkpoint": vla.name, "device": str(vla.device),
                         "decoder": make_decoder().name, "unnorm_key": vla.unnorm_key, "action": ACTION}

    def episode(self) -> Episode:
        """The state of a new client."""
        return Episode(self._make_decoder(), self._vla.statistics)

    def episode_of(self, host: str) -> Episode:
        """The state of the client at a host that keeps no connection."""
        if host not in self._peers:
            self._peers[host] = self.episode()
        self._peers.move_to_end(host)
        while len(self._peers) > MAX_PEERS:
            self._peers.popitem(last=False)
        return self._peers[host]

    async def decide(self, episode: Episode, observation: Observation, pause: float = float("inf")) -> Decision:
        """The decision. Raises BadRequest, Busy, or what the model raises."""
        self._check_key(observation.unnorm_key)
        objection = self._vla.too_long(observation.instruction)
        if objection:
            raise BadRequest(objection)
        if self._waiting >= MAX_WAITING:
            raise Busy(f"{MAX_WAITING} requests wait already: ask less often, or start another server")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._decide, episode, observation, pause)
        finally:
            self._waiting -= 1

    def _check_key(self, key: str) -> None:
        own = self._vla.unnorm_key
        if key not in ("", own) and f"{key}_no_noops" != own:
            raise BadRequest(f"unnorm_key is {key[:80]!r}, but this server's statistics are {own!r}: leave it out, or start "
                             "another server with that --unnorm-key")

    def _decide(self, episode: Episode, observation: Observation, pause: float) -> Decision:
        """In the inference thread."""
        history = episode.history_for(observation, pause)
        history.see(observation.measured)
        decision = episode.decoder.decide(observation.image, observation.instruction, history)
        if not np.all(np.isfinite(decision.action)):
            raise ValueError("the checkpoint gave an action that is not finite; its weights or statistics are damaged")
        history.record(decision.bins)
        self.actions += 1
        return decision

    def warm_up(self) -> None:
        """Two decisions about nothing: the first passes allocate and compile."""
        black = Observation(np.zeros((256, 256, 3), np.uint8), "warm up")
        for _ in range(2):
            self._thread.submit(self._decide, self.episode(), black, PAUSE).result()
        self.actions = 0

    def close(self) -> None:
        """Nothing more will be asked."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def openpi_answer(decision: Decision) -> dict:
    """What openpi's clients expect, a chunk of one action (1, 7), and the decision's other fields for our own."""
    rest = asdict(decision) | {"bins": decision.bins.tolist()}
    del rest["action"]
    rest["passes"] = [[record.kind, record.drafted, record.accepted] for record in decision.passes]
    return {"actions": np.asarray(decision.action, float)[None], EXTENSION: rest}
