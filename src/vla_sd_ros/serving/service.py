# SPDX-License-Identifier: Apache-2.0
"""One loaded policy for many clients: each has its own brain and history, all share one inference thread.

That thread answers one request after the other, or, with `batch`, up to so many at a time: those that wait when it becomes
free, and those that come within BATCH_WAIT after the first of them. A request alone waits for that long in vain.
"""

import asyncio
import functools
import math
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
from vla_sd_ros.serving.metrics import Metrics
from vla_sd_ros.serving.requests import EXTENSION, BadRequest, Busy, Observation, Unready
from vla_sd_ros.serving.rounds import Rounds

MAX_WAITING = 32  # requests for the inference thread, the running one among them
MAX_PEERS = 256  # clients whose episodes over POST /act are remembered
MAX_STEPS = 100_000  # of an episode, as many as a goal of vla_node may have
BATCH_WAIT = 0.005  # s that a batch waits for more requests after its first one
PAUSE = 10.0  # s without a request after which a goal is over, and POST /act begins a new episode
ACTION = "x, y, z [m], roll, pitch, yaw [rad] of one step, base axes; gripper 0 closed .. 1 open"


class ClientEpisode:
    """One client's state: a brain of its own, because decoders learn from step to step, and its seat at the model."""

    def __init__(self, seat, brain):
        self.seat, self.brain = seat, brain  # a LocalBrain (assembly/local.py) over the seat
        self._history: History | None = None
        self._key, self._instruction, self._used = "", "", 0.0
        self.begun, self.heard = False, time.monotonic()  # heard: infinite while a request is being answered

    @property
    def runs(self) -> bool:
        """Whether there is a goal that may go on: no client says when it is over."""
        return self.begun and time.monotonic() - self.heard < PAUSE

    def continues(self, observation: Observation, key: str, pause: float = math.inf) -> bool:
        """Whether the observation belongs to the episode so far: not at step 0, for another instruction or other statistics than
        before, or after a pause [s]."""
        return (
            self._history is not None
            and len(self._history) < MAX_STEPS
            and observation.step != 0
            and key == self._key
            and observation.instruction == self._instruction
            and time.monotonic() - self._used <= pause
        )

    def history_for(self, observation: Observation, key: str, pause: float = math.inf) -> History:
        """The history that the observation continues, or a new one. In the inference thread.

        key: of the statistics. Actions that the client says it has not executed are forgotten. BadRequest where it names a
        step that never was.
        """
        history = self._history if self.continues(observation, key, pause) else None
        if key != self._key:
            self.brain.use(self.brain.choice._replace(unnorm_key=key))
        if history is None:
            history = self._history = self.brain.begin()
        self._key, self._instruction = key, observation.instruction
        self._used, step = time.monotonic(), observation.step
        if step is not None and step > len(history):
            raise BadRequest(
                f"'step' is {step}, but this connection has seen only {len(history)} steps of the episode: begin a new one with "
                "step 0"
            )
        if step is not None:
            del history.bins[step:]
        return history


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
        self._episodes: set[ClientEpisode] = set()
        self.waiting = 0  # requests, those being decided among them
        self.actions = 0  # decided so far
        self.draining = False  # no new goals are taken
        self.metrics = Metrics()
        self.metadata = {
            "server": "vla_sd_ros",
            "checkpoint": vla.name,
            "device": str(vla.device),
            "decoder": new_brain(vla).name,
            "unnorm_key": vla.unnorm_key,
            "unnorm_keys": vla.unnorm_keys,
            "batch": batch,
            "action": ACTION,
        }
        if self._rounds:
            self._thread.submit(self._answer_in_rounds, self._rounds)

    def episode(self) -> ClientEpisode:
        """The state of a new client, until it has left."""
        seat = self._rounds.seat() if self._rounds else self._vla
        episode = ClientEpisode(seat, self._new_brain(seat))
        self._episodes.add(episode)
        return episode

    def left(self, episode: ClientEpisode) -> None:
        """Its client is gone."""
        self._episodes.discard(episode)

    def episode_of(self, client: str) -> ClientEpisode:
        """The state of a client that keeps no connection, by its name."""
        if client not in self._peers:
            self._peers[client] = self.episode()
        self._peers.move_to_end(client)
        while len(self._peers) > MAX_PEERS:
            self.left(self._peers.popitem(last=False)[1])
        return self._peers[client]

    @property
    def goals(self) -> int:
        """How many run."""
        return sum(episode.runs for episode in self._episodes)

    async def decide(self, episode: ClientEpisode, observation: Observation, pause: float = math.inf) -> Decision:
        """The decision. Raises BadRequest, Busy, Unready, or what the model raises."""
        key = self._key_of(observation.unnorm_key)
        objection = self._vla.prompts.too_long(observation.instruction)
        if objection:
            raise BadRequest(objection)
        if self.draining and not episode.continues(observation, key, pause):
            raise Unready("the server is about to stop and takes no new goals: ask another one, or this one when it is back")
        if self.waiting >= MAX_WAITING:
            raise Busy(f"{MAX_WAITING} requests wait already: ask less often, or start another server")
        self.waiting += 1
        episode.begun, episode.heard = True, math.inf
        try:
            decision = await asyncio.wrap_future(self._ask(episode, observation, key, pause))
            self.actions += 1
            return decision
        finally:
            self.waiting -= 1
            episode.heard = time.monotonic()

    def _ask(self, episode: ClientEpisode, *request) -> Future:
        """What the inference thread will answer."""
        if not self._rounds:
            self.metrics.shared(1)
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
            calls = [call for call in calls if call[2].set_running_or_notify_cancel()]  # a client may have gone
            if calls:
                self.metrics.shared(len(calls))
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
            episodes = [self.episode() for _ in range(self._batch)]
            for answer in [self._ask(episode, black, self._key, PAUSE) for episode in episodes]:
                answer.result()
            self._episodes.difference_update(episodes)

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
