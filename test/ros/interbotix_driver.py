# SPDX-License-Identifier: Apache-2.0
"""Interbotix's driver of a WidowX 250 S for tests: sim_arm_node, and xs_sdk_sim.py, which is Interbotix's own simulated one.

The latter where INTERBOTIX_SOURCES names a folder with clones (branch jazzy) of interbotix_ros_core and
interbotix_ros_manipulators, and urdf_parser_py can be imported (pip install urdfdom-py).
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from geometry_msgs.msg import PoseStamped
from processes import LATCHED, NodeProcess, node_command
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from vla_sd_msgs.msg import ArmStatus

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "test"))
import standins  # noqa: E402

NAME = "wx250s"
MODES = yaml.safe_load((ROOT / "config" / "widowx_modes.yaml").read_text())
TOPICS = ("joint_states", "robot_description", "commands/joint_group", "commands/joint_single", "get_robot_info")


def genuine() -> tuple[Path, Path]:
    """Interbotix's own simulated driver, and its configuration of the motors; skips the test where they are not."""
    sdk, control = (standins.interbotix(name) for name in ("interbotix_xs_sdk", "interbotix_xsarm_control"))
    if sdk is None or control is None:
        pytest.skip("INTERBOTIX_SOURCES names no folder with interbotix_ros_core and interbotix_ros_manipulators (branch jazzy)")
    if importlib.util.find_spec("urdf_parser_py") is None:
        pytest.skip("xs_sdk_sim.py needs urdf_parser_py: pip install urdfdom-py")
    return sdk / "scripts" / "xs_sdk_sim.py", control / "config" / f"{NAME}.yaml"


class InterbotixDriver:
    """The process of a driver in the namespace /wx250s, and what is said to it and by it, as lists of (time, message)."""

    def __init__(self, kind: str, ros, domain, folder: Path, modes: dict = MODES):
        """kind: sim_arm_node or xs_sdk_sim. modes: of the motors, as in config/widowx_modes.yaml."""
        from interbotix_xs_msgs.msg import JointGroupCommand, JointSingleCommand

        from vla_sd_ros.sim.arms import Description

        self.ours = kind == "sim_arm_node"
        self.ros, self.description = ros, Description("widowx", NAME)
        file = folder / "modes.yaml"
        file.write_text(yaml.safe_dump(modes))
        if self.ours:
            command = node_command(
                "vla_sd_ros.nodes.sim_arm_node",
                {"robot": "widowx", "prefix": NAME, "modes": str(file), "camera_rate": 0.5},
                folder,
                f"/{NAME}",
            )
        else:
            script, motors = genuine()
            command = node_command(
                "-",
                {"motor_configs": str(motors), "mode_configs": str(file), "robot_description": self.description.urdf},
                folder,
                f"/{NAME}",
            )
            command[1:3] = [str(script)]
            ros.publish(String, f"/{NAME}/robot_description", String(data=self.description.urdf), LATCHED, wait=False)
        self.process = NodeProcess(command, domain, folder / "driver.log")
        self.states = ros.listen(JointState, f"/{NAME}/joint_states")
        self.groups = ros.listen(JointGroupCommand, f"/{NAME}/commands/joint_group")
        self.singles = ros.listen(JointSingleCommand, f"/{NAME}/commands/joint_single")

    def wait(self) -> None:
        """Until it is there."""
        self.process.wait_for_line("simulating widowx" if self.ours else "is up!")
        self.ros.wait_until(lambda: self.states, "joint states")

    def arm_node(self, start, warns: bool = False, **parameters) -> list:
        """Start arm_node with config/widowx.yaml before the driver; parameters: others, a.b as a__b. Its status, which has begun.

        warns: whether something is wrong, so that it may.
        """
        values = yaml.safe_load((ROOT / "config" / "widowx.yaml").read_text())["/**/arm_node"]["ros__parameters"]
        for name, value in parameters.items():
            section, _, last = name.rpartition("__")
            (values[section] if section else values)[last] = value
        remaps = [word for topic in TOPICS for word in ("-r", f"{topic}:=/{NAME}/{topic}")]
        statuses, measured = self.ros.listen(ArmStatus, "arm_node/status", LATCHED), self.ros.listen(PoseStamped, "measured_pose")
        process = start("vla_sd_ros.nodes.arm_node", values, *remaps)
        process.wait_for_line("is active")
        self.ros.wait_until(lambda: statuses and measured, "a status and a measured pose")
        assert warns or "[WARN]" not in process.log, f"a normal start prints no warnings:\n{process.log}"
        return statuses

    def home(self) -> None:
        """Send the arm to the middle of its workspace; for before arm_node is started, which wants to be its one master."""
        from interbotix_xs_msgs.msg import JointGroupCommand

        publisher = self.ros.node.create_publisher(JointGroupCommand, f"/{NAME}/commands/joint_group", 1)
        self.ros.wait_until(lambda: publisher.get_subscription_count() > 1, "the driver")
        publisher.publish(JointGroupCommand(name="arm", cmd=self.description.home.tolist()))
        self.ros.wait_until(lambda: np.abs(self.joints() - self.description.home).max() < 1e-3, "the arm at home")
        self.ros.node.destroy_publisher(publisher)
        self.groups.clear()

    def joints(self) -> np.ndarray:
        """Positions (6,) of the arm's joints [rad]."""
        return np.array(self.states[-1][1].position[:6])

    def position(self) -> np.ndarray:
        """Of the end effector (3,) [m]."""
        return self.description.kinematics.forward(self.joints())[0]

    def finger(self) -> float:
        """Position of the left finger [m]."""
        message = self.states[-1][1]
        return message.position[message.name.index("left_finger")]

    def until_at_rest(self, where, what: str) -> None:
        """Wait until `where`, one of the methods above, has been the same for half a second."""

        def rests() -> bool:
            here, count = where(), len(self.states)
            self.ros.wait_until(lambda: len(self.states) > count + 10, "joint states")
            return bool(np.abs(where() - here).max() < 1e-6)

        self.ros.wait_until(rests, what)
