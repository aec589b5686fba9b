# SPDX-License-Identifier: Apache-2.0
"""`vla-sd robot`: a goal moves the arm behind the vendor's protocol, a fault ends it in the vendor's words, Ctrl-C leaves the
arm at rest.

All is real but the arm itself: the command, its processes, the vendor's library; the other end is the vendor's protocol,
simulated.
"""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from processes import LATCHED
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from test_kill_of_vla_node import camera
from vendors import Fr3, WidowXAI
from vla_sd_msgs.msg import ArmStatus

from vla_sd_ros.client import InstructionClient

REST = 0.005  # rad, that a joint may move in 0.3 s


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


def moved(robot, start):
    return np.abs(robot.where() - start).max()


@pytest.fixture(params=["franka", "wxai"])
def running(request, domain, ros, tmp_path, checkpoint):
    """The robot's other end, the command, a client."""
    with Fr3() if request.param == "franka" else WidowXAI() as robot:
        parameters = tmp_path / "mine.yaml"
        home = (
            "franka_driver: {ros__parameters: {home: {dynamics: 0.5}}}"
            if request.param == "franka"
            else ("wxai_driver: {ros__parameters: {home: {speed: 2.0}}}")
        )
        # A random policy, which no real arm must follow.
        parameters.write_text(f"/**/vla_node: {{ros__parameters: {{policy: {{real_arm: false}}}}}}\n/**/{home}\n")
        given = (
            ["--robot-ip", robot.address, "--realtime", "ignore"] if request.param == "franka" else ["--ip-address", "127.0.0.1"]
        )
        command = Command(domain, tmp_path, checkpoint, request.param, *given, "--params-file", str(parameters))
        camera(ros)
        client = InstructionClient("vla", context=ros.context)
        try:
            command.wait_until_ready()
            yield robot, command, client
        finally:
            client.close()
            if command.process.poll() is None:
                command.process.send_signal(signal.SIGTERM)
            command.process.wait(30)


def test_a_goal_moves_the_arm_a_fault_ends_it_and_ctrl_c_leaves_it_at_rest(running, ros):
    robot, command, client = running
    driver, fault = ("franka_driver", "reflex") if isinstance(robot, Fr3) else ("wxai_driver", "overheated")
    answer = ros.call(Trigger, f"{driver}/home", Trigger.Request(), 60.0)
    assert answer.success, answer.message
    statuses = ros.listen(ArmStatus, "arm_node/status", LATCHED)
    client.wait_for_node(20.0)

    start = robot.where()
    client.start("pick up the milk", time_limit=60.0)
    ros.wait_until(lambda: moved(robot, start) > 0.03, "motion of the arm", 20.0)

    robot.say(fault)
    ros.wait_until(lambda: statuses[-1][1].code == ArmStatus.ROBOT_FAULT, "the fault", 5.0)
    # vla_node's own end of the goal covers the status; the sentence of the robot was in it before.
    told = [m.message for _, m in statuses if m.code == ArmStatus.ROBOT_FAULT]
    assert any(fault in sentence and "~/recover" in sentence for sentence in told), told
    ros.wait_until(lambda: client.is_complete(0.1), "the end of the goal", 10.0)
    assert robot.motion() < REST

    robot.say("released")
    time.sleep(0.5)
    answer = ros.call(Trigger, f"{driver}/recover", Trigger.Request(), 30.0)
    assert answer.success, answer.message
    states = ros.listen(JointState, "joint_states")
    ros.wait_until(lambda: states, "joint states after the recovery")

    start = robot.where()
    client.start("pick up the milk", time_limit=60.0)
    ros.wait_until(lambda: moved(robot, start) > 0.02, "motion after the recovery", 20.0)
    command.process.send_signal(signal.SIGINT)
    assert command.process.wait(20.0) == 128 + signal.SIGINT, command.output
    assert robot.motion() < REST, "the arm was not at rest"


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
    file.write_text("/**/vla_node: {ros__parameters: {policy: {real_arm: false}}}\n")
    command = Command(domain, tmp_path, checkpoint, *(word.format(file=file) for word in arguments))
    assert command.process.wait(60.0) == code
    assert sentence in command.output and "Traceback" not in command.output
