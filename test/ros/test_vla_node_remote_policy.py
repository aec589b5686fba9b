# SPDX-License-Identifier: Apache-2.0
"""With policy.remote a policy server decides; when it is lost the arm holds, the goal ends, and the next one works."""

import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from vla import NODE, Vla
from vla_sd_msgs.action import ExecuteInstruction

sys.path.insert(0, str(Path(__file__).parents[1] / "serving"))

from served import SETTINGS, Local, ServerProcess  # noqa: E402

INSTRUCTION = "pick up the milk"
TIMEOUT = 5.0  # s; a machine that is busy with other tests needs more than one for the first action


@pytest.fixture(scope="module")
def serve(checkpoint, tmp_path_factory):
    """serve(port) -> a server process that is ready."""
    folder, started = tmp_path_factory.mktemp("servers"), []

    def serve(port: int = 0) -> ServerProcess:
        started.append(ServerProcess.relaxed(checkpoint, folder, "--port", str(port), log=f"log_{len(started)}"))
        started[-1].wait_until_ready()
        return started[-1]

    yield serve
    for process in started:
        process.kill()


def test_a_policy_server_decides_is_lost_and_comes_back(serve, checkpoint, tmp_path):
    server = serve()
    vla = Vla(
        checkpoint,
        tmp_path,
        **{"policy.remote": server.url, "policy.remote_timeout": TIMEOUT, "policy.checkpoint": "there_is_none_here"},
    )
    try:
        vla.wait_until_active()
        assert f"policy server {server.url}: checkpoint" in vla.process.log
        decides_as_the_local_decoder(vla, Local(checkpoint, "prefill_relaxed", SETTINGS))
        refuses_the_decoders_parameters(vla)
        the_goal_ends(vla, server, lambda: server.process.send_signal(signal.SIGKILL), "was lost")
        another = serve(server.port)
        vla.clear()
        vla.start_moving(INSTRUCTION, steps=3)  # the same instruction, in a new episode
        the_goal_ends(vla, another, lambda: another.process.send_signal(signal.SIGSTOP), "did not answer within 5 s")
        another.process.send_signal(signal.SIGCONT)
        vla.clear()
        vla.start_moving(INSTRUCTION, steps=3)
        code, seconds = vla.process.end(signal.SIGTERM)
        assert code == 0 and seconds < 3.0
    finally:
        vla.close()


def decides_as_the_local_decoder(vla: Vla, local: Local) -> None:
    """Two goals with one instruction: each begins its own episode."""
    image = np.frombuffer(vla.world._pixels, np.uint8).reshape(64, 64, 3)
    expected = local.actions([image] * 4, INSTRUCTION)
    for _ in range(2):
        vla.clear()
        vla.start_moving(INSTRUCTION, steps=4)
        assert vla.client.cancel()
        result = vla.client.result(5.0)
        assert result.decode_summary.decoder == "prefill_relaxed"
        steps = [step for _, step in vla.steps][:4]
        np.testing.assert_array_equal([step.action for step in steps], expected.astype(np.float32))
        assert [step.forward_passes for step in steps[1:]] == [1, 1, 1]  # the last action was verified in the prefill
        assert all(step.total_ms >= step.vision_ms + step.prefill_ms > 0 for step in steps)


def refuses_the_decoders_parameters(vla: Vla) -> None:
    refused = vla.ros.set_parameter(NODE, "decoder.name", "kerv")
    assert not refused.successful and "has no effect with policy.remote" in refused.reason
    refused = vla.ros.set_parameter(NODE, "policy.remote", "ws://127.0.0.1:1")
    assert not refused.successful and "only while vla_node is unconfigured" in refused.reason


def the_goal_ends(vla: Vla, server: ServerProcess, lose, sentence: str) -> None:
    """Hold, INFERENCE_FAILED and a sentence, within the time limit."""
    if not vla.client.running:
        vla.start_moving(INSTRUCTION)
    lose()
    begin = time.monotonic()
    result = vla.client.result(30.0)
    assert time.monotonic() - begin < 2 * TIMEOUT
    assert vla.client.status == GoalStatus.STATUS_ABORTED
    assert (result.error_code, result.termination_reason) == (ExecuteInstruction.Result.INFERENCE_FAILED, "fault")
    assert sentence in result.error_msg and server.url in result.error_msg
    vla.ros.wait_until(vla.holds, "a hold command")


def test_no_server_fails_configure_with_a_sentence(start, ros):
    process = start("vla_sd_ros.nodes.vla_node", {"policy.remote": "ws://127.0.0.1:9"})
    assert not ros.change_state(NODE, "configure")
    line = process.wait_for_line("could not configure")
    assert "no policy server answers at ws://127.0.0.1:9" in line and "start one with vla-sd serve" in line
    assert "Traceback" not in process.log and ros.state(NODE) == "unconfigured"
    assert ros.set_parameter(NODE, "policy.remote", "http://127.0.0.1:9").successful
    assert not ros.change_state(NODE, "configure")
    process.wait_for_line("but must be like ws://host:8000")
