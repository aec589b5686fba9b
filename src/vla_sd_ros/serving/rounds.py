# SPDX-License-Identifier: Apache-2.0
"""Several clients' decoders side by side: whenever all of them wait for the model, it runs once for all.

    rounds = Rounds(vla, most=4)
    seat = rounds.seat()                                        # in place of vla, for the decoder of one client
    decoder = factory.make("prefill", seat)
    results = rounds.run([(seat, lambda: decoder.decide(image, instruction)), ...])

Decoders need not know: a seat has a Vla's interface, and its passes wait until the others' are there too.
"""

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from vla_sd_ros.policy.batch import BatchedVla
from vla_sd_ros.policy.draft import EMPTY, Draft
from vla_sd_ros.policy.vla import Pass, Prefill, Prompt, Vla, action_of


class Seat:
    """A Vla's interface for one client at a time; statistics of its own."""

    def __init__(self, vla: Vla, calls: queue.Queue):
        self._vla, self._calls, self.row = vla, calls, 0
        self.unnorm_key = vla.unnorm_key

    def __getattr__(self, name: str):
        return getattr(self._vla, name)  # what needs no pass: sizes, the draft head, too_long(), ...

    @property
    def statistics(self):
        """Those of the seat's unnorm_key."""
        return self._vla.statistics_of(self.unnorm_key)

    def observe(self, image: np.ndarray, instruction: str) -> Prompt:
        """Vla.observe() in the next round that has a place: image (H, W, 3) uint8 RGB."""
        return self._ask("observe", image, instruction)

    def prefill(self, prompt: Prompt, draft: Draft = EMPTY) -> Prefill:
        """Vla.prefill() in a round, together with the passes of other clients."""
        return self._ask("prefill", prompt, draft)

    def extend(self, draft: Draft) -> Pass:
        """Vla.extend() in a round, together with the passes of other clients."""
        return self._ask("extend", draft)

    def keep(self, path: list[int]) -> None:
        """Vla.keep() in the row of the cache that is the seat's: a path of the last draft, as its nodes from the root on."""
        self._ask("keep", path)

    def action(self, bins: np.ndarray) -> np.ndarray:
        """The action (7,) [m, rad, gripper] of bins (7,), by the seat's own statistics."""
        return action_of(self.statistics, bins)

    def _ask(self, kind: str, *arguments):
        answer: Future = Future()
        self._calls.put((self, kind, arguments, answer))
        return answer.result()


class Rounds:
    """Runs up to `most` clients at a time. run() is called by one thread, which is the only one that uses the model."""

    def __init__(self, vla: Vla, most: int):
        self._vla, self._batch = vla, BatchedVla(vla, most)
        self._calls: queue.Queue = queue.Queue()
        self._threads = ThreadPoolExecutor(most, "decoder")

    def seat(self) -> Seat:
        """A new seat at the model, for one client."""
        return Seat(self._vla, self._calls)

    def run(self, work: Sequence[tuple[Seat, Callable]]) -> list[Future]:
        """A done future, with result or exception, of each piece of work; each must have a seat of its own."""
        for row, (seat, _) in enumerate(work):
            seat.row = row
        futures = [self._threads.submit(self._sit, seat, piece) for seat, piece in work]
        waiting, active = [], len(work)
        while active:
            call = self._calls.get()
            if call is None:
                active -= 1
            elif call[1] == "keep":  # a few slots of one row: nobody has to wait for that
                self._answer([call], lambda call=call: [self._batch.keep(call[0].row, *call[2])])
            else:
                waiting.append(call)
            if active and len(waiting) == active:
                self._pass(waiting)
                waiting = []
        return futures

    def _sit(self, seat: Seat, piece: Callable):
        try:
            return piece()
        finally:
            self._calls.put(None)

    def _pass(self, calls: list) -> None:
        """Answers all calls, with one pass of each kind."""
        calls.sort(key=lambda call: call[0].row)
        for kind in ("observe", "prefill", "extend"):
            group = [call for call in calls if call[1] == kind]
            rows, arguments = [call[0].row for call in group], list(zip(*(call[2] for call in group)))
            if kind == "observe":
                self._answer(group, lambda: self._batch.observe(*arguments))
            else:
                self._answer(group, lambda: getattr(self._batch, kind)(rows, *arguments))

    @staticmethod
    def _answer(calls: list, work: Callable) -> None:
        if not calls:
            return
        try:
            results = work()
        except Exception as error:
            for *_, answer in calls:
                answer.set_exception(error)
            return
        for (*_, answer), result in zip(calls, results, strict=True):
            answer.set_result(result)

    def close(self) -> None:
        """Ends the threads; what waits is not run."""
        self._threads.shutdown(wait=False, cancel_futures=True)
