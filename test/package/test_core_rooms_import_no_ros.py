# SPDX-License-Identifier: Apache-2.0
"""What decides, watches and limits runs without ROS: no module of the core rooms imports it, or a room that does."""
import ast
from pathlib import Path

import pytest

import vla_sd_ros

PACKAGE = Path(vla_sd_ros.__file__).parent
CORE = ("assembly", "control", "decoding", "kinematics", "policy", "retrieval", "serving", "training", "watching")
ROS = {"rclpy", "rclpy_action", "launch", "launch_ros", "rosidl_runtime_py"}
ROOMS_WITH_ROS = {f"vla_sd_ros.{room}" for room in ("arms", "messages", "nodes", "client", "bringup")}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("room", CORE)
def test_a_core_room_knows_nothing_of_ros(room):
    files = list((PACKAGE / room).rglob("*.py"))
    assert files
    for path in files:
        wrong = {name for name in imported(path) if name.split(".")[0] in ROS or name.split(".")[0].endswith("_msgs")
                 or ".".join(name.split(".")[:2]) in ROOMS_WITH_ROS}
        assert not wrong, f"{path.relative_to(PACKAGE)} imports {', '.join(sorted(wrong))}"
