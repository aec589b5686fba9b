# SPDX-License-Identifier: Apache-2.0
"""An arm by pip, simulated at the other end of its vendor's protocol, and arm_node before it; goals by hand, not by vla_node.

with ByPip("franka", robot, folder) as arm:
    arm.home()
    found = arm.circle(goal=1)
"""

import argparse
import time
from pathlib import Path

import numpy as np
from panda import command
from processes import LATCHED, Domain, NodeProcess, Ros
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from test_widowx_reaches_commanded_poses import PERIOD, following_errors, targets_after
from vla_sd_msgs.msg import ArmStatus, EndEffectorCommand

from vla_sd_ros import robot as robot_command
from vla_sd_ros.kinematics.arm import ArmKinematics
from vla_sd_ros.kinematics.pose import Pose

DELAYS = np.arange(0.0, 0.5, 0.005)  # s, among which that of the arm is looked for


class ByPip:
    """Both processes with what `vla-sd robot` gives them. options: further ones of the command."""

    def __init__(self, arm: str, robot, folder: Path, *options: str):
        parser = argparse.ArgumentParser()
        robot_command.add_arguments(parser)
        given = ["--robot-ip", robot.address, "--realtime", "ignore"] if arm == "franka" else ["--ip-address", robot.address]
        arguments = parser.parse_args([arm, *given, *options])
        self._plan = [part for part in robot_command.plan_of(arguments)[0] if part.executable != "vla_node"]
        self._folder, self._domain = folder, Domain()
        self.driver = self._plan[0].executable

    def __enter__(self):
        self.processes = {
            part.executable: NodeProcess(
                robot_command.command(part, "vla", self._folder), self._domain, self._folder / f"{part.executable}.log"
            )
            for part in self._plan
        }
        self.ros = Ros(self._domain)
        self.states = self.ros.listen(JointState, "joint_states")
        self.statuses = self.ros.listen(ArmStatus, "arm_node/status", LATCHED)
        descriptions = self.ros.listen(String, "robot_description", LATCHED)
        for name, line in ((self.driver, "driving"), ("arm_node", "is active")):
            self.processes[name].wait_for_line(line)
        self.ros.wait_until(lambda: self.states and descriptions, "the driver's topics")
        values = self._plan[1].parameters
        self.frame, self._joints = values["base_frame"], len(values["joint_names"])
        self._kinematics = ArmKinematics(descriptions[-1][1].data, values["tip_link"], values["joint_names"], self.frame)
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            process.kill()
        self.ros.close()
        self._domain.release()

    def call(self, service: str) -> Trigger.Response:
        return self.ros.call(Trigger, f"{self.driver}/{service}", Trigger.Request(), 60.0)

    def home(self) -> None:
        answer = self.call("home")
        assert answer.success, answer.message
        time.sleep(0.5)

    def pose(self, message: JointState) -> Pose:
        return Pose(*self._kinematics.forward(np.array(message.position[: self._joints])))

    def circle(self, goal: int) -> dict[str, float]:
        """Command a circle of 10 cm with a turn of the hand in 6 s, as one goal: lengths [mm], times [s]."""
        self.states.clear()
        self.ros.wait_until(lambda: self.states, "joint states")
        targets, deltas = targets_after(self.pose(self.states[-1][1]))
        sent, begin = [], time.monotonic() + PERIOD
        for step, (way, turn) in enumerate(deltas):
            time.sleep(max(0.0, begin + step * PERIOD - time.monotonic()))
            message = command(goal, step, translation=way, rotation=turn, period=PERIOD, frame=self.frame)
            message.header.stamp = self.ros.node.get_clock().now().to_msg()
            sent.append(time.time())
            self.ros.publish(EndEffectorCommand, "command", message)
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
        }
