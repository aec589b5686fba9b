# SPDX-License-Identifier: Apache-2.0
"""The rooms that CONTRIBUTING names import nothing of ROS, and no room that does, so that they run and are tested without."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "vla_sd_ros"
RULE = re.search(r"\*\*Rooms without ROS stay so\*\*: (.+?) import", (ROOT / "CONTRIBUTING.md").read_text(), re.S)[1]
ROOMS = re.findall(r"`(\w+)`", RULE)
OF_ROS = re.compile(
    r"rclpy|ament_index_python|launch\b|"
    r"\w+_msgs\b|rosidl|vla_sd_ros\.(nodes|arms|messages(?!\.(images|stamps)\b)|client|bringup|launching)\b"
)
DUCKS = "messages/images.py", "messages/stamps.py"  # which take messages as they come, and import none


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


@pytest.mark.parametrize("room", [*ROOMS, *DUCKS])
def test_the_room_imports_no_ros(room):
    files = [SOURCE / room, SOURCE / f"{room}.py", *(SOURCE / room).rglob("*.py")]
    there = [path for path in files if path.is_file()]
    assert there
    assert {(path.name, name) for path in there for name in imports(path) if OF_ROS.match(name)} == set()


def test_the_check_sees_an_import_of_ros():
    assert len(ROOMS) >= 6
    assert [name for name in imports(SOURCE / "client.py") if OF_ROS.match(name)]
