# SPDX-License-Identifier: Apache-2.0
"""One loaded policy for many clients: each has its own brain and history, all share one inference thread.

That thread answers one request after the other, or, with `batch`, up to so many at a time: those that wait when it becomes
free, and those that come within BATCH_WAIT after the first of them. A request alone waits for that long in vain.
"""
import asyncio
import functools
import queue
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict

import numpy as np

from vla_sd_ros.decoding.decision import Decision
from vla_sd_ros.decoding.history import History
from vla_sd_ros.policy.vla import Vla
from vla_sd_ros.serving.requests import EXTENSION, BadRequest, Busy, Observation
from vla_sd_ros.serving.rounds import Rounds

MAX_WAITING = 32        # requests for the inference thread, the running one among them
MAX_PEERS = 256         # hosts whose episodes over POST /act are remembered
MAX_STEPS = 100_000     # of an episode, as many as a goal of vla_node may have
BATCH_WAIT = 0.005      # s that a batch waits for more requests after its first one
PAUSE = 10.0            # s without a request after which POST /act begins a new episode
ACTION = "x, y, z [m], roll, pitch, yaw [rad] of one step, base axes; gripper 0 closed .. 1 open"


class ClientEpisode:
    """One client's state: a brain of its own, because decoders learn from step to step, and its seat at the model."""

    def __init__(self, seat, brain):
        self.seat, self.brain = seat, brain     # a LocalBrain (assembly/local.py) over the seat
        self._history: History | None = None
        self._key, self._instruction, self._used = "", "", 0.0

    def history_for(self, observation: Observation, key: str, pause: float = float("inf")) -> History:
        """The history that the observation continues: a new one at step 0, for another instruction or other statistics than
        before, or after a pause [s]. In the inference thread.

        key: of the statistics. Actions that the client says it has not executed are forgotten. BadRequest where it names a
        step that never was.
        """
        now = time.monotonic()
        if key != self._key:
            self.brain.use(self.brain.choice._replace(unnorm_key=key))
            self._history = None
        new = observation.step == 0 or observation.instruction != self._instruction or now - self._used > pause
        if new or self._history is None or len(self._history) >= MAX_STEPS:
            self._history = self.brain.begin()
        self._key, self._instruction = key, observation.instruction
        self._used, step = now, observation.step
        if step is not None and step > len(self._history):
            raise BadRequest(f"'step' is {step}, but this connection has seen only {len(self._history)} steps of the "
                             "episode: begin a new one with step 0")
        if step is not None:
            del self._history.bins[step:]
        return self._history


class Service:
    """Decides for all clients, one at a time or, with batch > 1, up to so many in each pass of the model.

    new_brain: a LocalBrain (assembly/local.py) over the vla, or the seat at it, that it is given; one for each client.
    """

    def __init__(self, vla: Vla, new_brain: Callable, batch: int = 1):
        self._vla, self._new_brain, self._key = vla, new_brain, vla.unnorm_key
        self._thread = ThreadPoolExecutor(1, "inference")
        self._rounds = Rounds(vla, batch) if batch > 1 else None
        self._batch = batch
        self._queue: queue.SimpleQueue = queue.SimpleQueue()
        self._peers: OrderedDict[str, ClientEpisode] = OrderedDict()
        self._waiting = 0
        self.actions = 0        # decided so far
        self.metadata = {"server": "vla_sd_ros", "checkpoint": vla.name, "device": str(vla.device),
                         "decoder": new_brain(vla).name, "unnorm_key": vla.unnorm_key, "unnorm_keys": vla.unnorm_keys,
                         "batch": batch, "action": ACTION}
        if self._rounds:
            self._thread.submit(self._answer_in_rounds, self._rounds)

    def episode(self) -> ClientEpisode:
        """The state of a new client."""
        seat = self._rounds.seat() if self._rounds else self._vla
        return ClientEpisode(seat, self._new_brain(seat))

    def episode_of(self, host: str) -> ClientEpisode:
        """The state of the client at a host that keeps no connection."""
        if host not in self._peers:
            self._peers[host] = self.episode()
        self._peers.move_to_end(host)
        while len(self._peers) > MAX_PEERS:
            self._peers.popitem(last=False)
        return self._peers[host]

    async def decide(self, episode: ClientEpisode, observation: Observation, pause: float = float("inf")) -> Decision:
        """The decision. Raises BadRequest, Busy, or what the model raises."""
        key = self._key_of(observation.unnorm_key)
        objection = self._vla.prompts.too_long(observation.instruction)
        if objection:
            raise BadRequest(objection)
        if self._waiting >= MAX_WAITING:
            raise Busy(f"{MAX_WAITING} requests wait already: ask less often, or start another server")
        self._waiting += 1
        try:
            decision = await asyncio.wrap_future(self._ask(episode, observation, key, pause))
            self.actions += 1
            return decision
        finally:
            self._waiting -= 1

    def _ask(self, episode: ClientEpisode, *request) -> Future:
        """What the inference thread will answer."""
        if not self._rounds:
            return self._thread.submit(self._decide, episode, *request)
        answer: Future = Future()
        self._queue.put((episode, request, answer))
        return answer

    def _answer_in_rounds(self, rounds: Rounds) -> None:
        """The inference thread's life with batches. A client's second request waits for the next round."""
        held: list = []
        while True:
            calls, held = _one_of_each(held)
            if not calls:
                calls = [self._queue.get()]
            end = time.monotonic() + BATCH_WAIT
            while None not in calls and len(calls) < self._batch:
                try:
                    call = self._queue.get(timeout=max(0.0, end - time.monotonic()))
                except queue.Empty:
                    break
                (held if call and call[0] in [c[0] for c in calls] else calls).append(call)
            if None in calls:
                return
            calls = [call for call in calls if call[2].set_running_or_notify_cancel()]     # a client may have gone
            work = [(episode.seat, functools.partial(self._decide, episode, *request)) for episode, request, _ in calls]
            for (*_, answer), done in zip(calls, rounds.run(work)):
                _hand_over(done, answer)

    def _key_of(self, key: str) -> str:
        """The statistics that a request asks for; those of the server if it names none. BadRequest for unknown ones."""
        try:
            return self._vla.key_of(key or self._key)
        except ValueError as error:
            raise BadRequest(f"unnorm_key is {key[:80]!r}, but {error}") from error

    def _decide(self, episode: ClientEpisode, observation: Observation, key: str, pause: float) -> Decision:
        """In the inference thread, or, in a round, in one of the decoders'."""
        history = episode.history_for(observation, key, pause)
        if not observation.follows:
            history.interrupt()
        history.see(observation.measured)
        decision = episode.brain.decide(observation.image, observation.instruction, history)
        history.record(decision.bins)
        return decision

    def warm_up(self) -> None:
        """Two decisions about nothing: the first passes allocate and compile."""
        black = Observation(np.zeros((256, 256, 3), np.uint8), "warm up")
        for _ in range(2):
            for answer in [self._ask(self.episode(), black, self._key, PAUSE) for _ in range(self._batch)]:
                answer.result()

    def close(self) -> None:
        """Nothing more will be asked."""
        self._queue.put(None)
        self._thread.shutdown(wait=False, cancel_futures=True)
        if self._rounds:
            self._rounds.close()


def _one_of_each(calls: list) -> tuple[list, list]:
    """The first call of each client, and the others."""
    first = {id(call[0]): call for call in reversed(calls)}
    chosen = [call for call in calls if first[id(call[0])] is call]
    return chosen, [call for call in calls if first[id(call[0])] is not call]


def _hand_over(done: Future, answer: Future) -> None:
    if error := done.exception():
        answer.set_exception(error)
    else:
        answer.set_result(done.result())


def openpi_answer(decision: Decision) -> dict:
    """What openpi's clients expect, a chunk of one action (1, 7), and the decision's other fields for our own."""
    extension = asdict(decision) | {"bins": decision.bins.tolist()}
    del extension["action"]
    extension["passes"] = [[record.kind, record.drafted, record.accepted] for record in decision.passes]
    return {"actions": np.asarray(decision.action, float)[None], EXTENSION: extension}
