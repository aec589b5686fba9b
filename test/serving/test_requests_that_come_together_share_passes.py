# SPDX-License-Identifier: Apache-2.0
"""With --batch, clients that ask at the same time get their own local decoder's actions, from passes that they share."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from served import INSTRUCTION, Local, images, served_here

from vla_sd_ros.cli import main
from vla_sd_ros.decoding.history import History
from vla_sd_ros.serving.rounds import Rounds

OTHER = "place it in the basket"


@pytest.fixture(scope="module", params=["autoregressive", "prefill", "prefill_relaxed", "prefill_jacobi"])
def local(checkpoint, request):
    return Local(checkpoint, request.param, {"prefill_sources": ["last_action", "head"]})


def work_of(local, seat, shown, instruction):
    """An episode at a seat: its actions."""
    decoder, history, actions = local.make(seat), History(seat.statistics), []
    for image in shown:
        history.see(None)
        decision = decoder.decide(image, instruction, history)
        history.record(decision.bins)
        actions.append(decision.action)
    return np.array(actions)


def test_each_client_has_the_actions_it_would_have_alone(local):
    rounds = Rounds(local.vla, 3)
    episodes = [(images(2), INSTRUCTION), (images(3, 1), OTHER), (images(1, 2), INSTRUCTION)]  # of different lengths
    seats = [rounds.seat() for _ in episodes]
    done = rounds.run([(seat, lambda seat=seat, e=e: work_of(local, seat, *e)) for seat, e in zip(seats, episodes)])
    for future, (shown, instruction) in zip(done, episodes):
        np.testing.assert_allclose(future.result(), local.actions(shown, instruction), rtol=1e-12)


def test_passes_are_shared(local, monkeypatch):
    rounds, sizes = Rounds(local.vla, 2), []
    original = rounds._batch.prefill
    monkeypatch.setattr(rounds._batch, "prefill", lambda rows, *rest: sizes.append(len(rows)) or original(rows, *rest))
    seats = [rounds.seat(), rounds.seat()]
    for future in rounds.run([(seat, lambda seat=seat: work_of(local, seat, images(2), OTHER)) for seat in seats]):
        future.result()
    assert sizes == [2, 2]


def test_a_failure_is_only_its_own_clients(local):
    rounds = Rounds(local.vla, 2)
    bad, good = rounds.run(
        [(rounds.seat(), lambda: 1 / 0), (seat := rounds.seat(), lambda: work_of(local, seat, images(2), INSTRUCTION))]
    )
    assert isinstance(bad.exception(), ZeroDivisionError)
    np.testing.assert_allclose(good.result(), local.actions(images(2)), rtol=1e-12)


def test_clients_of_a_server_that_ask_at_once(local):
    from openpi_client.websocket_client_policy import WebsocketClientPolicy

    start = threading.Barrier(3)

    def client(number: int, port: int) -> np.ndarray:
        policy, shown = WebsocketClientPolicy("127.0.0.1", port), images(3, number)
        start.wait()
        return np.array([policy.infer({"observation/image": image, "prompt": INSTRUCTION})["actions"][0] for image in shown])

    with served_here(local, batch=2) as port, ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(client, range(3), [port] * 3))
    for number, answer in enumerate(answers):
        np.testing.assert_allclose(answer, local.actions(images(3, number)), rtol=1e-12)


def test_what_cannot_be_batched_is_one_sentence(checkpoint, capsys):
    assert main(["serve", "--checkpoint", str(checkpoint), "--port", "0", "--batch", "2", "--decoder", "kerv"]) == 2
    assert "--batch works with decoders that need no drafter" in capsys.readouterr().err
