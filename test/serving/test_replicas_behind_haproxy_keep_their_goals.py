# SPDX-License-Identifier: Apache-2.0
"""config/haproxy.cfg before two replicas: a goal stays where it began, one is drained, one is killed, and the next goals go on."""

import json
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import json_numpy
import numpy as np
import pytest
from served import INSTRUCTION, Http, ServerProcess, images

from vla_sd_ros.serving.remote import RemoteError, RemotePolicy

CONFIG = Path(__file__).parents[2] / "config" / "haproxy.cfg"
pytestmark = pytest.mark.skipif(not shutil.which("haproxy"), reason="haproxy is not installed")


@pytest.fixture(scope="module")
def proxied(checkpoint, tmp_path_factory):
    """The proxy's port, and the two replicas."""
    folder = tmp_path_factory.mktemp("proxied")
    replicas = [ServerProcess.relaxed(checkpoint, folder, log=f"log{i}") for i in (1, 2)]
    proxy = None
    try:
        for replica in replicas:
            replica.wait_until_ready()
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        text = CONFIG.read_text()
        for old, new in zip((8000, 8001, 8002), (port, replicas[0].port, replicas[1].port)):
            text = text.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}")
        (folder / "haproxy.cfg").write_text(text)
        proxy = subprocess.Popen(["haproxy", "-f", str(folder / "haproxy.cfg")])
        deadline = time.monotonic() + 10.0
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield port, replicas
    finally:
        for process in filter(None, (proxy, *(replica.process for replica in replicas))):
            process.kill()
            process.wait()


def goals(replica: ServerProcess) -> int:
    text = Http(replica.port).ask("GET", "/metrics")[1]
    return int(float(text.partition("\nvla_sd_goals ")[2].split()[0]))


def step(remote: RemotePolicy, progress, image) -> np.ndarray:
    decision = remote.decide(image, INSTRUCTION, progress)
    progress.record(decision.bins)
    return decision.action


def test_goals_stay_and_the_next_ones_go_where_there_is_a_server(proxied, local):
    port, replicas = proxied
    act = [Http(port, {"X-Session-Id": name}) for name in ("a", "b")]
    seen = [images(3), images(3, first=1)]

    def ask(who: int, turn: int) -> np.ndarray:
        status, text = act[who].act(json_numpy.dumps({"image": seen[who][turn], "instruction": INSTRUCTION}))
        assert status == 200, text
        return json_numpy.loads(text)

    robots = [RemotePolicy(f"ws://127.0.0.1:{port}", 30.0) for _ in range(2)]
    progress = [robot.begin() for robot in robots]
    own = [[step(robots[who], progress[who], seen[who][0])] for who in (0, 1)]
    answers = [[ask(who, 0)] for who in (0, 1)]
    assert [goals(replica) for replica in replicas] == [2, 2]  # one of each kind on each

    replicas[0].process.send_signal(signal.SIGTERM)
    time.sleep(2.5)  # the proxy has asked /ready
    assert replicas[0].process.poll() is None
    for turn in (1, 2):
        for who in (0, 1):
            own[who].append(step(robots[who], progress[who], seen[who][turn]))
            answers[who].append(ask(who, turn))
    for who in (0, 1):
        np.testing.assert_array_equal(own[who], local.actions(seen[who]))
        np.testing.assert_array_equal(answers[who], local.actions(seen[who]))
    for robot in robots:  # the next goal of both is on the other replica
        np.testing.assert_array_equal(step(robot, robot.begin(), seen[0][0]), local.actions(seen[0])[0])
    assert goals(replicas[1]) >= 3
    assert replicas[0].process.wait(20.0) == 0
    assert act[0].act(json_numpy.dumps({"image": seen[0][0], "instruction": INSTRUCTION}))[0] == 200

    progress = robots[0].begin()
    step(robots[0], progress, seen[0][0])
    replicas[1].process.kill()
    with pytest.raises(RemoteError, match="was lost"):
        step(robots[0], progress, seen[0][1])
    status, text = act[0].act(json.dumps({}))
    assert status == 503 and "Service Unavailable" in text
