# SPDX-License-Identifier: Apache-2.0
"""config/haproxy.cfg before two replicas: a goal stays where it began, one is drained, one is killed, and the next goals go on."""

import json
import shutil
import signal
import time

import json_numpy
import numpy as np
import pytest
from served import INSTRUCTION, Http, ServerProcess, images, proxied

from vla_sd_ros.serving.remote import RemoteError, RemotePolicy

pytestmark = pytest.mark.skipif(not shutil.which("haproxy"), reason="HAProxy is not installed: apt-get install haproxy")


@pytest.fixture(scope="module")
def system(checkpoint, tmp_path_factory):
    """The proxy's port, and the two replicas."""
    folder = tmp_path_factory.mktemp("proxied")
    replicas = [ServerProcess.relaxed(checkpoint, folder, log=f"log{i}") for i in (1, 2)]
    try:
        with proxied(replicas, folder) as port:
            yield port, replicas
    finally:
        for replica in replicas:
            replica.kill()


def step(remote: RemotePolicy, progress, image) -> np.ndarray:
    decision = remote.decide(image, INSTRUCTION, progress)
    progress.record(decision.bins)
    return decision.action


def test_goals_stay_and_the_next_ones_go_where_there_is_a_server(system, local):
    port, replicas = system
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
    assert [replica.goals for replica in replicas] == [2, 2]  # one of each kind on each
    assert {client.told["X-Replica"] for client in act} == {"replica1", "replica2"}

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
    assert replicas[1].goals >= 3
    assert replicas[0].process.wait(20.0) == 0
    assert act[0].act(json_numpy.dumps({"image": seen[0][0], "instruction": INSTRUCTION}))[0] == 200

    progress = robots[0].begin()
    step(robots[0], progress, seen[0][0])
    replicas[1].kill()  # and wait: a process that is being killed may take a connection yet
    with pytest.raises(RemoteError, match="was lost"):
        step(robots[0], progress, seen[0][1])
    status, text = Http(port).act(json.dumps({}))  # act[0] kept its connection: the proxy may just hang up there
    assert status == 503 and "Service Unavailable" in text
