# SPDX-License-Identifier: Apache-2.0
"""An arm by pip, simulated at the other end of its vendor's protocol, and arm_node before it; goals by hand, not by vla_node.

with ByPip("franka", robot, folder) as arm:
    arm.home()
    found = arm.circle(goal=1)
    with arm.goal(2):           # it moves
        arm.processes["franka_driver"].kill()
"""

import argparse
import itertools
import json
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from geometry_msgs.msg import PoseStamped
from panda import command
from processes import LATCHED, Domain, NodeProcess, Ros
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from test_widowx_reaches_commanded_poses import PERIOD, following_errors, targets_after
from vendors import REST
from vla_sd_msgs.msg import ArmStatus, EndEffectorCommand

from vla_sd_ros import robot as robot_command
from vla_sd_ros.kinematics.arm import ArmKinematics
from vla_sd_ros.kinematics.pose import Pose

DELAYS = np.arange(0.0, 0.5, 0.005)  # s, among which that of the arm is looked for
LARGEST_ERROR, LONGEST_DELAY = 5.0, 0.15  # mm, s: of the circle, what is promised
BUSY = 0.3  # share of the time that something waits for a processor, from which on times say nothing about the arm
PACE = 1.0  # s from one goal to the next: of two clients arm_node obeys neither
STROKE, SPEED = 0.10, 0.05  # m, m/s: of a goal to and fro
QUICK = {"franka": {"home": {"dynamics": 0.5}}, "wxai": {"home": {"speed": 2.0}}}  # parameters of a driver in a simulator


def arguments_of(arm: str, robot) -> list[str]:
    """Of `vla-sd robot`, for a simulated robot."""
    given = ["--robot-ip", robot.address, "--realtime", "ignore"] if arm == "franka" else ["--ip-address", robot.address]
    return [arm, *given]


def within_promise(found: dict[str, float]) -> bool:
    """Whether a circle was followed as closely as docs/arms.md says."""
    return found["largest error [mm]"] <= LARGEST_ERROR and found["delay [s]"] <= LONGEST_DELAY


def waiting() -> float:
    """For how long something has waited for a processor since this machine was started [s]; NaN where the kernel does not tell."""
    pressure = Path("/proc/pressure/cpu")
    return 1e-6 * int(pressure.read_text().split("total=")[1].split()[0]) if pressure.exists() else math.nan


class ByPip:
    """Both processes with what `vla-sd robot` gives them, and a way home that is quick."""

    def __init__(self, arm: str, robot, folder: Path):
        parser = argparse.ArgumentParser()
        robot_command.add_arguments(parser)
        quick = folder / "quick.yaml"
        quick.write_text(json.dumps({f"/**/{arm}_driver": {"ros__parameters": QUICK[arm]}}))
        arguments = parser.parse_args([*arguments_of(arm, robot), "--params-file", str(quick)])
        self._plan = {p.executable: p for p in robot_command.plan_of(arguments)[0] if p.executable != "vla_node"}
        self._folder, self._domain, self.robot = folder, Domain(), robot
        self.driver = f"{arm}_driver"
        self.processes: dict[str, NodeProcess] = {}
        self._next_goal = 0.0

    def start(self, executable: str) -> NodeProcess:
        """A process of it, from now on the one of that name."""
        command = robot_command.command(self._plan[executable], "vla", self._folder)
        self.processes[executable] = NodeProcess(command, self._domain, self._folder / f"{executable}.log")
        return self.processes[executable]

    def __enter__(self):
        for executable in self._plan:
            self.start(executable)
        self.ros = Ros(self._domain)
        self.states = self.ros.listen(JointState, "joint_states")
        self.statuses = self.ros.listen(ArmStatus, "arm_node/status", LATCHED)
        self.measured = self.ros.listen(PoseStamped, "measured_pose")
        self.faults = self.ros.listen(String, "robot_fault", LATCHED)
        descriptions = self.ros.listen(String, "robot_description", LATCHED)
        for name, line in ((self.driver, "driving"), ("arm_node", "is active")):
            self.processes[name].wait_for_line(line)
        self.ros.wait_until(lambda: self.states and descriptions, "the driver's topics")
        self.ros.wait_until(lambda: self.measured, "joint states at arm_node")
        values = self._plan["arm_node"].parameters
        self.frame, self._joints = values["base_frame"], len(values["joint_names"])
        self._kinematics = ArmKinematics(descriptions[-1][1].data, values["tip_link"], values["joint_names"], self.frame)
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            process.kill()
        self.ros.close()
        self._domain.release()

    def call(self, service: str, timeout: float = 60.0) -> Trigger.Response:
        return self.ros.call(Trigger, f"{self.driver}/{service}", Trigger.Request(), timeout)

    def recover(self) -> None:
        """Asked again, if need be: for 20 s DDS may hand a question to the driver that was killed, and one recovery may be under way."""
        end = time.monotonic() + 60.0
        while True:
            try:
                answer = self.call("recover", 4.0)
            except AssertionError:
                continue
            finally:
                assert time.monotonic() < end, "no recovery within a minute"
            if answer.success:
                return
            assert answer.message.startswith("not now:"), answer.message
            time.sleep(0.5)

    def home(self) -> None:
        end = time.monotonic() + 15.0
        while not (answer := self.call("home")).success:  # DDS may take seconds until the driver hears arm_node
            assert "nothing comes on" in answer.message and time.monotonic() < end, answer.message
        time.sleep(0.5)

    def pose(self, message: JointState) -> Pose:
        return Pose(*self._kinematics.forward(np.array(message.position[: self._joints])))

    def send(self, goal: int, step: int, translation=(0.0, 0.0, 0.0), rotation=(0.0, 0.0, 0.0)) -> None:
        """A command of PERIOD."""
        message = command(goal, step, translation=translation, rotation=rotation, period=PERIOD, frame=self.frame)
        message.header.stamp = self.ros.node.get_clock().now().to_msg()
        self.ros.publish(EndEffectorCommand, "command", message)

    @contextmanager
    def goal(self, number: int) -> Iterator[None]:
        """A goal that leads the arm to and fro until the block is left; it is entered when the arm moves."""
        ended, steps = threading.Event(), round(STROKE / SPEED / PERIOD)

        def command() -> None:
            for step in itertools.count():
                self.send(number, step, (0.0, SPEED * PERIOD * (1.0 if step // steps % 2 else -1.0), 0.0))
                if ended.wait(PERIOD):
                    return

        if self.faults and self.faults[-1][1].data:  # of a test that failed, or of a machine that paused
            self.recover()
        # DDS may take seconds until arm_node hears a driver that was started anew.
        since = time.monotonic()
        self.ros.wait_until(lambda: self.measured and self.measured[-1][0] > since, "joint states at arm_node")
        time.sleep(max(0.0, self._next_goal - time.monotonic()))
        self._next_goal = time.monotonic() + PACE
        thread = threading.Thread(target=command)
        thread.start()
        try:
            self.wait_for_motion()
            yield
        finally:
            ended.set()
            thread.join()

    def wait_for_motion(self) -> None:
        """Until a joint is elsewhere, more than it trembles."""
        start, end = self.robot.where(), time.monotonic() + 15.0
        while np.abs(self.robot.where() - start).max() < 5 * REST:
            assert time.monotonic() < end, f"the arm does not move; arm_node: {self.statuses[-1][1].message}"
            time.sleep(0.005)

    def circle(self, goal: int) -> dict[str, float]:
        """Command a circle of 10 cm with a turn of the hand in 6 s, as one goal: lengths [mm], times [s], and how busy the
        machine was: a pause of it makes delay and errors larger, never smaller.
        """
        self.states.clear()
        self.ros.wait_until(lambda: self.states, "joint states")
        targets, deltas = targets_after(self.pose(self.states[-1][1]))
        sent, waited, begin = [], waiting(), time.monotonic() + PERIOD
        for step, (way, turn) in enumerate(deltas):
            time.sleep(max(0.0, begin + step * PERIOD - time.monotonic()))
            sent.append(time.time())
            self.send(goal, step, way, turn)
        busy = (waiting() - waited) / (time.monotonic() - begin)
        time.sleep(2.0)
        stamps = np.array([m.header.stamp.sec + 1e-9 * m.header.stamp.nanosec for _, m in self.states])
        during = (stamps > sent[0]) & (stamps < sent[-1] + PERIOD)
        positions = np.array([self.pose(m).position for (_, m), inside in zip(self.states, during) if inside])
        goals, at = np.array([p.position for p in targets]), np.array(sent)
        delay = min(DELAYS, key=lambda delay: following_errors(positions, stamps[during], goals, at, delay).max())
        following = following_errors(positions, stamps[during], goals, at, delay)
        return {
            "delay [s]": float(delay),
            "largest error [mm]": 1e3 * float(following.max()),
            "mean error [mm]": 1e3 * float(following.mean()),
            "way [mm]": 1e3 * float(np.linalg.norm(np.diff(positions, axis=0), axis=1).sum()),
            "error at rest [mm]": 1e3 * float(np.linalg.norm(self.pose(self.states[-1][1]).position - goals[-1])),
            "busy": busy,
        }
