# SPDX-License-Identifier: Apache-2.0
"""`vla-sd robot`: a goal moves the arm behind the vendor's protocol, Ctrl-C leaves it at rest, both arms within a minute.

All is real but the arm itself: the command, its processes, the vendor's library; the other end is the vendor's protocol,
simulated. Faults: test_an_arm_by_pip_follows_and_rests.py.
"""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from by_pip import BUSY, QUICK, arguments_of, waiting
from std_srvs.srv import Trigger
from test_kill_of_vla_node import camera
from vendors import REST, Fr3, WidowXAI

from vla_sd_ros.client import InstructionClient

MOVED = 0.03  # rad
HALF_A_MINUTE = 30.0  # s, for each arm, simulator to rest
RANDOM = {"/**/vla_node": {"ros__parameters": {"policy": {"real_arm": False}}}}  # which no real arm must follow


class Command:
    """`vla-sd robot ...` as a process."""

    def __init__(self, domain, folder, checkpoint, *arguments):
        options = [
            "--checkpoint",
            str(checkpoint),
            "--image-topic",
            "/vla/image",
            "--domain-id",
            str(domain.id),
            "--output-dir",
            str(folder / "runs"),
        ]
        self._log = folder / "robot.log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "vla_sd_ros.cli", "robot", *arguments, *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=domain.environment(),
            )

    @property
    def output(self) -> str:
        return self._log.read_text()

    def wait_until_ready(self) -> None:
        end = time.monotonic() + 120.0
        while "ready:" not in self.output:
            assert self.process.poll() is None and time.monotonic() < end, self.output
            time.sleep(0.1)


@pytest.mark.parametrize("arm", QUICK)
def test_a_goal_moves_the_arm_and_ctrl_c_leaves_it_at_rest(arm, domain, ros, tmp_path, checkpoint):
    parameters = {f"/**/{arm}_driver": {"ros__parameters": QUICK[arm]}} | RANDOM
    (tmp_path / "mine.yaml").write_text(json.dumps(parameters))
    with Fr3() if arm == "franka" else WidowXAI() as robot:
        begin, waited = time.monotonic(), waiting()
        command = Command(domain, tmp_path, checkpoint, *arguments_of(arm, robot), "--params-file", str(tmp_path / "mine.yaml"))
        camera(ros)
        client = InstructionClient("vla", context=ros.context)
        try:
            command.wait_until_ready()
            (log,) = (tmp_path / "runs").rglob("arm_node.log")
            if (waiting() - waited) / (time.monotonic() - begin) <= BUSY:  # else joint states may come late, and that is told
                assert "[WARN]" not in log.read_text(), "a normal start prints no warnings"
            answer = ros.call(Trigger, f"{arm}_driver/home", Trigger.Request(), 60.0)
            assert answer.success, answer.message
            client.wait_for_node(20.0)
            start = robot.where()
            client.start("pick up the milk", time_limit=60.0)
            ros.wait_until(lambda: np.abs(robot.where() - start).max() > MOVED, "motion of the arm", 20.0)
            command.process.send_signal(signal.SIGINT)
            assert command.process.wait(20.0) == 128 + signal.SIGINT, command.output
            assert robot.motion() < REST, "the arm was not at rest"
        finally:
            client.close()
            if command.process.poll() is None:
                command.process.send_signal(signal.SIGTERM)
            command.process.wait(30)
    took = time.monotonic() - begin
    if took > HALF_A_MINUTE and not (busy := (waiting() - waited) / took) <= BUSY:
        pytest.skip(f"all but the time is right: {took:.0f} s, for {busy:.0%} of which something waits for a processor")
    assert took < HALF_A_MINUTE


ABSENT = ["franka", "--robot-ip", "127.0.0.9", "--realtime", "ignore"]


@pytest.mark.parametrize(
    "arguments, code, sentence",
    [
        (["franka"], 2, "give --robot-ip ADDRESS"),
        (["wxai", "--arm-variant", "two"], 2, "invalid choice: 'two'"),
        (ABSENT, 2, "is a policy of the simulator"),
        ([*ABSENT, "--params-file", "{file}"], 1, "franka_driver: no Franka answers at '127.0.0.9'"),
    ],
)
def test_what_cannot_be_is_one_sentence(arguments, code, sentence, domain, tmp_path, checkpoint):
    file = tmp_path / "parameters.yaml"
    file.write_text(json.dumps(RANDOM))
    command = Command(domain, tmp_path, checkpoint, *(word.format(file=file) for word in arguments))
    assert command.process.wait(60.0) == code
    assert sentence in command.output and "Traceback" not in command.output


def test_another_arm_node_of_its_name_is_left_alone(domain, start, ros, tmp_path, checkpoint):
    start("vla_sd_ros.nodes.arm_node")
    assert ros.state("arm_node") == "unconfigured"
    file = tmp_path / "parameters.yaml"
    file.write_text("/**/vla_node: {ros__parameters: {policy: {real_arm: false}}}\n")
    command = Command(domain, tmp_path, checkpoint, *ABSENT, "--params-file", str(file))
    assert command.process.wait(30.0) == 2, command.output
    assert f"in ROS domain {domain.id} there is /vla/arm_node already" in command.output and "starting" not in command.output
    assert ros.state("arm_node") == "unconfigured"
