# SPDX-License-Identifier: Apache-2.0
"""The whole system as processes: a simulated robot, arm_node, vla_node; and a relay through which faults come in.

    with System(folder, robot="arm", checkpoint=folder_of_a_policy) as system:
        system.start_moving()
        system.relay.joint_states = not_a_number
        system.wait_for_rest()

The robot's images, joint states and /clock pass through the relay, in this process, which hands each to a function and
publishes what that gives; None: nothing. Everything else goes straight from node to node.
"""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from processes import BEST_EFFORT, LATCHED, Domain, NodeProcess, Ros, node_command
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from vla_sd_msgs.msg import ArmStatus, EndEffectorCommand
from vla_sd_msgs.srv import ResetScene

from vla_sd_ros.client import InstructionClient
from vla_sd_ros.control.tracker import Limits
from vla_sd_ros.nodes.arm_node import ArmNode
from vla_sd_ros.nodes.vla_node import VlaNode

SIM_YAML = Path(__file__).parents[2] / "config" / "sim.yaml"
MODULES = {name: f"vla_sd_ros.nodes.{name}" for name in ("vla_node", "arm_node", "sim_node", "sim_arm_node")}
READY = {"vla_node": "is active", "arm_node": "is active", "sim_node": "simulating", "sim_arm_node": "simulating"}
BOOT = 300.0  # s, for a node to be ready: a deadline, not what it takes
STILL = 0.25  # s without motion that count as rest
MOVED, TURNED = 1e-6, 1e-5  # m, rad: less from one target to the next is no motion


def same(message):
    return message


class Relay:
    """Images, joint states and simulated time of the robot on their way to the nodes, each through a function."""

    def __init__(self, ros: Ros):
        self.heal()
        self._images = ros.node.create_publisher(Image, "image", 1)
        self._joints = ros.node.create_publisher(JointState, "joint_states", 10)
        self._clock = ros.node.create_publisher(Clock, "/clock", 10)
        ros.node.create_subscription(Image, "raw/image", self._on_image, BEST_EFFORT)
        ros.node.create_subscription(JointState, "raw/joint_states", self._on_joints, BEST_EFFORT)
        ros.node.create_subscription(Clock, "raw/clock", self._on_clock, BEST_EFFORT)

    def heal(self) -> None:
        self.image: Callable = same
        self.joint_states: Callable = same
        self.clock: Callable = same

    def _on_image(self, message: Image) -> None:
        if (message := self.image(message)) is not None:
            self._images.publish(message)

    def _on_clock(self, message: Clock) -> None:
        if (message := self.clock(message)) is not None:
            self._clock.publish(message)

    def _on_joints(self, message: JointState) -> None:
        if (message := self.joint_states(message)) is not None:
            self._joints.publish(message)


class System:
    """See the module's docstring. `arm`, `vla`: parameters beside those of config/sim.yaml (robot scene) or the defaults.

    robot: "scene", sim_node, a scene with physics; or "arm", sim_arm_node, a Franka without dynamics. target: the topic
    on which the commanded motion is observed. wrap: what comes before the command of a node's process, by its name.
    """

    def __init__(
        self,
        folder: Path,
        robot: str = "scene",
        checkpoint: str = "libero",
        arm: dict | None = None,
        vla: dict | None = None,
        relay: bool = True,
        target: str = "target_pose",
        wrap: dict[str, list[str]] | None = None,
        discovery: str = "LOCALHOST",
        simulated_time: bool = False,
    ):
        self.folder, self.robot, self.domain = folder, "sim_node" if robot == "scene" else "sim_arm_node", Domain()
        self.domain.discovery = discovery
        self.wrap, self._relayed = wrap or {}, relay
        self.ros = Ros(self.domain)
        self.relay = Relay(self.ros) if relay else None
        base = {"autostart": True, "use_sim_time": simulated_time}
        self.values = {
            "arm_node": _of("arm_node", robot) | base | (arm or {}),
            "vla_node": _of("vla_node", robot) | base | {"policy.checkpoint": str(checkpoint), "policy.threads": 1} | (vla or {}),
            "sim_node": _of("sim_node", robot) | {"use_sim_time": simulated_time},
            "sim_arm_node": {"robot": "franka", "prefix": "panda", "image_size": 96},
        }
        listen = self.ros.listen
        self.targets, self._target = listen(PoseStamped, target), target
        self.statuses = listen(ArmStatus, "arm_node/status", LATCHED)
        self.commands = listen(EndEffectorCommand, "command")
        self.diagnostics = listen(DiagnosticArray, "/diagnostics")
        self.measured = listen(PoseStamped, "measured_pose")
        self.instructions = listen(String, "task_instruction", LATCHED)
        self._records = (self.targets, self.statuses, self.commands, self.diagnostics, self.measured)
        self.processes: dict[str, NodeProcess] = {}
        self._starts = 0
        self.client: InstructionClient | None = None

    def __enter__(self) -> "System":
        try:
            for name in (self.robot, "arm_node", "vla_node"):
                self.start(name)
            for name in self.processes:
                self.wait_until_ready(name)
            self.client = InstructionClient("vla", context=self.ros.context)
            self.client.wait_for_node(20.0)
            self.ros.wait_until(lambda: self.measured, "a measured pose", 30.0)
            self.home = self.measured[0][1]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.client:
            self.client.close()
        for process in self.processes.values():
            process.kill()
        self.ros.close()
        self.domain.release()

    # Processes

    def start(self, name: str) -> None:
        """Start a node, anew where it ended."""
        remaps = ("-r", "image:=raw/image", "-r", "joint_states:=raw/joint_states", "-r", "/clock:=/vla/raw/clock")
        arguments = remaps if name == self.robot and self._relayed else ()
        self._starts += 1
        command = node_command(MODULES[name], self.values[name], self.folder, arguments=arguments)
        log = self.folder / f"{name}_{self._starts}.log"
        self.processes[name] = NodeProcess(self.wrap.get(name, []) + command, self.domain, log)

    def wait_until_ready(self, name: str) -> None:
        self.processes[name].wait_for_line(READY[name], BOOT)

    def restart_dead(self) -> list[str]:
        """Start what has ended; returns the names when all are ready."""
        time.sleep(0.2)  # a process that a fault has broken may be about to end
        dead = [name for name, process in self.processes.items() if process.process.poll() is not None]
        for name in dead:
            self.start(name)
        since = time.monotonic()
        for name in dead:
            self.wait_until_ready(name)
        if "vla_node" in dead:
            self.client.close()
            self.client = InstructionClient("vla", context=self.ros.context)
            self.client.wait_for_node(20.0)
        if dead:
            self.ros.wait_until(lambda: self.measured and self.measured[-1][0] > since, "a measured pose", 30.0)
        if "arm_node" in dead:  # DDS keeps a killed one for 20 s, in which the arm's driver sees two masters
            self.ros.wait_until(lambda: self.ros.node.count_publishers(self._target) == 1, "one publisher of targets", 40.0)
            self.ros.wait_until(lambda: self.statuses[-1][1].code == ArmStatus.NO_COMMAND, "the end of the second master", 10.0)
        return dead

    def signal(self, name: str, number: int) -> None:
        self.processes[name].process.send_signal(number)

    # Motion

    def clear(self) -> None:
        for seen in self._records:
            seen.clear()

    def reset(self) -> None:
        """As at the start: nothing falsified, the scene reset or the arm back at its first pose, nothing recorded."""
        if self.relay:
            self.relay.heal()
        if self.robot == "sim_node":
            answer = self.ros.call(ResetScene, "sim_node/reset", ResetScene.Request(initial_state=40, task=-1), 60.0)
            assert answer.success, answer.message
            time.sleep(0.5)
        else:
            self._renew_robot()
        self.clear()

    def _renew_robot(self) -> None:
        """A simulated arm begins at its first pose, and both nodes hear it: DDS may take seconds until they do.

        Meanwhile arm_node is inactive, so that it gives its old target up.
        """
        assert self.ros.change_state("arm_node", "deactivate")
        self.processes[self.robot].terminate()
        self.start(self.robot)
        self.wait_until_ready(self.robot)
        assert self.ros.change_state("arm_node", "activate")
        since = time.monotonic()
        self.ros.wait_until(
            lambda: (
                self.measured
                and self.measured[-1][0] > since
                and np.linalg.norm(position(self.measured[-1][1]) - position(self.home)) < 0.01
            ),
            "the arm at its first pose",
            30.0,
        )
        for age, least in (("joint state age [s]", 0.2), ("image age [s]", 1.0)):
            self.ros.wait_until(
                lambda age=age, least=least: self._hears(age, least, since), f"{age} of the new arm in vla_node", 30.0
            )

    def _hears(self, age: str, least: float, since: float) -> bool:
        """Whether vla_node's diagnostics after a time [s], steady, tell of what is younger than `least` [s]."""
        told = [
            value.value
            for t, array in list(self.diagnostics)
            for status in array.status
            for value in status.values
            if t > since and status.name.endswith("vla_node") and value.key == age
        ]
        return bool(told) and float(told[-1]) < least

    def command(self, goal: np.ndarray, step: int, translation: np.ndarray) -> None:
        """One command as vla_node sends them; goal: its id, uint8 (16,)."""
        message = EndEffectorCommand(gripper=1.0, step=step)
        message.header.frame_id = self.values["arm_node"]["base_frame"]
        message.goal_id.uuid = goal
        message.period.nanosec = 200_000_000
        t = message.translation
        t.x, t.y, t.z = map(float, translation)
        self.ros.publish(EndEffectorCommand, "command", message, 1)

    def start_moving(self, actions: int = 4, timeout: float = 20.0) -> None:
        """A goal, and wait until the target moves by its actions."""
        self.client.start(self.instructions[-1][1].data if self.instructions else "pick up the milk", time_limit=600.0)

        def acting() -> bool:
            assert not self.client.is_complete(0.01), f"the goal ended before it moved: {self.client.result().error_msg}"
            return sum(not c.hold for _, c in list(self.commands)) >= actions

        self.ros.wait_until(acting, f"{actions} actions", timeout)
        self.ros.wait_until(lambda: speed(self.targets) > 0.01, "motion", timeout)

    def end_goal(self) -> None:
        """Cancel what runs."""
        if self.client.running:
            self.client.cancel()
            self.client.result(10.0)

    def wait_for_rest(self, since: float, timeout: float = 10.0) -> float:
        """Time [s], steady, of the last motion of the target before it stood still for STILL, or was no longer sent."""
        end = time.monotonic() + timeout
        while (rest := first_rest(self.targets, since, time.monotonic())) is None:
            assert time.monotonic() < end, f"the target did not come to rest within {timeout} s"
            time.sleep(0.02)
        return rest

    def braking(self) -> float:
        """The bound on the time from the beginning of a hold to rest [s], with the limits in force."""
        v = self.values["arm_node"]
        return Limits(
            *(v[f"limits.{kind}_{of}"] for kind in ("linear", "angular") for of in ("velocity", "acceleration", "jerk"))
        ).stopping_time()


def _of(node: str, robot: str) -> dict:
    """Parameters of config/sim.yaml for the scene; the node's own defaults, with the tip of the simulated Franka."""
    if robot == "scene":
        return flat(yaml.safe_load(SIM_YAML.read_text())[f"/**/{node}"]["ros__parameters"])
    tables = {"arm_node": ArmNode.TABLE, "vla_node": VlaNode.TABLE}
    defaults = {spec.name: spec.default for spec in tables.get(node, ())}
    return defaults | ({"tip_link": "panda_hand_tcp"} if node == "arm_node" else {})


def flat(tree: dict, prefix: str = "") -> dict:
    """{'a': {'b': 1}} -> {'a.b': 1}"""
    items = {}
    for key, value in tree.items():
        items |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return items


def position(message: PoseStamped) -> np.ndarray:
    p = message.pose.position
    return np.array([p.x, p.y, p.z])


def motion(seen: list) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of targets (time, PoseStamped), all but the first: arrival [s]; distance [m] and angle [rad] to the one before."""
    seen = list(seen)
    times = np.array([when for when, _ in seen])
    points = np.array([position(message) for _, message in seen]).reshape(-1, 3)
    turns = np.array([[q.x, q.y, q.z, q.w] for q in (m.pose.orientation for _, m in seen)]).reshape(-1, 4)
    # |q1 - q2| is half of the angle, where that is small; 1 - dot product would lose all its digits there.
    apart = np.minimum(*(np.linalg.norm(turns[1:] - sign * turns[:-1], axis=1) for sign in (1.0, -1.0)))
    return times[1:], np.linalg.norm(np.diff(points, axis=0), axis=1), 2.0 * apart


def speed(seen: list, window: int = 10) -> float:
    """Mean speed over the last targets [m/s]; 0 where there are too few."""
    times, way, _ = motion(seen[-window - 1 :])
    return float(way.sum() / (times[-1] - times[0])) if len(times) == window and times[-1] > times[0] else 0.0


def first_rest(seen: list, since: float, now: float) -> float | None:
    """The end of the last motion at or after `since` before STILL seconds without any; `since` where there was none."""
    times, way, turn = motion(seen)
    moving = np.concatenate([[since], times[((way > MOVED) | (turn > TURNED)) & (times > since)], [now]])
    pauses = np.flatnonzero(np.diff(moving) > STILL)
    return float(moving[pauses[0]]) if len(pauses) else None
