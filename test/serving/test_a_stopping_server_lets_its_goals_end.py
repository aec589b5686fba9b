# SPDX-License-Identifier: Apache-2.0
"""SIGTERM: no new goals, those that run go on to their end or --drain, then exit code 0; a second SIGTERM ends at once."""

import json
import signal
import time
from contextlib import contextmanager

import json_numpy
import numpy as np
import pytest
from served import INSTRUCTION, Http, ServerProcess, images, websocket
from websockets.exceptions import ConnectionClosed

from vla_sd_ros.serving.remote import RemoteError, RemotePolicy


@contextmanager
def goal(checkpoint, folder, *options: str):
    """A server in which a goal runs: the process, its client, and how far the goal is."""
    process = ServerProcess.relaxed(checkpoint, folder, *options)
    try:
        process.wait_until_ready()
        remote = RemotePolicy(process.url, 30.0)
        progress = remote.begin()
        progress.record(remote.decide(images(1)[0], INSTRUCTION, progress).bins)
        yield process, remote, progress
        remote.close()
    finally:
        process.kill()


def drains(process: ServerProcess) -> Http:
    """Tells the process to stop, and waits until it has understood."""
    process.process.send_signal(signal.SIGTERM)
    client, deadline = Http(process.port), time.monotonic() + 10.0
    while client.ask("GET", "/ready")[0] != 503:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return client


def test_running_goals_end_and_new_ones_are_refused(checkpoint, local, tmp_path):
    with goal(checkpoint, tmp_path) as (process, remote, progress):
        body = json_numpy.dumps({"image": images(1)[0], "instruction": INSTRUCTION})
        mine = Http(process.port, {"X-Session-Id": "mine"})
        assert mine.act(body)[0] == 200
        idle, _ = websocket(process.port)
        client = drains(process)
        assert client.ask("GET", "/ready") == (503, '{"status": "draining"}') and client.ask("GET", "/healthz")[0] == 200
        status, text = client.act(body)
        assert status == 503 and "takes no new goals: ask another one" in json.loads(text)["error"]
        with pytest.raises(RemoteError, match="HTTP 503 .*is about to stop: connect to another one"):
            RemotePolicy(process.url)
        with pytest.raises(ConnectionClosed) as closed:
            idle.recv(10.0)
        assert closed.value.rcvd.code == 1001

        actions = []
        for image in images(3)[1:]:
            decision = remote.decide(image, INSTRUCTION, progress)
            progress.record(decision.bins)
            actions.append(decision.action)
        np.testing.assert_array_equal(actions, local.actions(images(3))[1:])
        assert mine.act(body)[0] == 200 and process.process.poll() is None
        with pytest.raises(RemoteError, match="HTTP 503"):
            remote.decide(images(1)[0], INSTRUCTION, remote.begin())  # the next goal
        assert process.process.wait(20.0) == 0  # that of /act is over when it asks no more
        assert "no new goals; 2 run and have 60 s" in process.log and "Traceback" not in process.log


def test_a_goal_that_does_not_end_is_cut_off(checkpoint, tmp_path):
    with goal(checkpoint, tmp_path, "--drain", "0.5") as (process, remote, progress):
        drains(process)
        assert process.process.wait(10.0) == 0 and "1 goals did not end in 0.5 s" in process.log
        with pytest.raises(RemoteError, match="was lost"):
            remote.decide(images(1)[0], INSTRUCTION, progress)


def test_a_second_signal_ends_at_once(checkpoint, tmp_path):
    with goal(checkpoint, tmp_path, "--batch", "2") as (process, remote, progress):
        drains(process)
        begin = time.monotonic()
        assert process.terminate() == 128 + signal.SIGTERM and time.monotonic() - begin < 5.0
        assert "Traceback" not in process.log
