# SPDX-License-Identifier: Apache-2.0
"""Each parameter of each node has, in each file of config/, a comment with its unit, its range and when it can change.

The comment is the one above the parameter, or above the parameters just before it, and that of its group.
"""

import re
from pathlib import Path

import pytest

from vla_sd_ros.nodes.arm_node import ArmNode
from vla_sd_ros.nodes.franka_driver import FrankaDriver
from vla_sd_ros.nodes.lifecycle import ManagedNode
from vla_sd_ros.nodes.parameters import ParameterSpec
from vla_sd_ros.nodes.sim_arm_node import SimArmNode
from vla_sd_ros.nodes.vla_node import VlaNode
from vla_sd_ros.nodes.wxai_driver import WxaiDriver

ROOT = Path(__file__).parents[2]
TABLES = {
    "arm_node": (ManagedNode.AUTOSTART, *ArmNode.TABLE),
    "vla_node": (ManagedNode.AUTOSTART, *VlaNode.TABLE),
    "sim_arm_node": SimArmNode.TABLE,
    "franka_driver": FrankaDriver.TABLE,
    "wxai_driver": WxaiDriver.TABLE,
}
try:
    from vla_sd_ros.nodes.sim_node import SimNode

    TABLES["sim_node"] = SimNode.TABLE
except ImportError:  # without the simulator
    pass
FILES = {
    "sim.yaml": ("arm_node", "vla_node", "sim_node"),
    "franka.yaml": ("arm_node", "vla_node", "sim_arm_node", "franka_driver"),
    "widowx.yaml": ("arm_node", "vla_node", "sim_arm_node", "wxai_driver"),
}
EXPLAINED_ONCE = "decoder.yaml"  # the settings that the file of each arm may have otherwise
CASES = [(file, node) for file, nodes in FILES.items() for node in nodes if node in TABLES]
LINE = re.compile(r"( *)([\w/*.]+):(.*)")


def comments(file: str, node: str) -> dict[str, str]:
    """What is said about each parameter of the node: comments of its groups and its own, in one line."""
    explained, groups, block, last = {}, [], [], {}
    inside, fresh = False, True
    for line in (ROOT / "config" / file).read_text().splitlines():
        stripped = line.strip()
        if not stripped:
            continue
        if stripped.startswith("#"):
            block, fresh = ([] if fresh else block) + [stripped.lstrip("# ")], False
            continue
        indent, key, value = LINE.fullmatch(line).groups()
        level = len(indent) // 2
        if level == 0:
            inside = key == f"/**/{node}"
        if not fresh:
            last[level] = " ".join(block)
        elif value == "":
            last[level] = ""
        groups = groups[:level] + [key]
        fresh = True
        if inside and level >= 2 and value:
            explained[".".join(groups[2:])] = " ".join(last.get(of, "") for of in range(2, level + 1))
        for deeper in [of for of in last if of > level]:
            del last[deeper]
    return explained


def unconfigured(spec: ParameterSpec) -> bool:
    """The model is loaded when the node is configured; of what it was loaded with, only the statistics can be changed."""
    return spec.name.startswith("policy.") and spec.name != "policy.unnorm_key"


def missing(spec: ParameterSpec, text: str) -> list[str]:
    """What the text does not say about the parameter."""
    wanted = []
    if unit := re.search(r"\[.+?\]", spec.description):
        wanted.append(unit[0])
    if spec.low is not None:
        wanted.append(" .. ".join(str(x) if isinstance(x, int) else f"{x:g}" for x in (spec.low, spec.high)))
    wanted += [choice for choice in spec.choices if choice]
    wanted.append("at start" if spec.read_only else "while unconfigured" if unconfigured(spec) else "live")
    return [word for word in wanted if word.lower() not in text.lower()]


@pytest.mark.parametrize("file, node", CASES)
def test_every_parameter_is_explained_with_unit_range_and_when_it_can_change(file, node):
    said = comments(file, node) | comments(EXPLAINED_ONCE, node)
    wrong = {spec.name: missing(spec, said[spec.name]) for spec in TABLES[node] if spec.name in said}
    assert {spec.name for spec in TABLES[node]} - set(said) == SET_BY_LAUNCH.get(node, set())
    assert {name: words for name, words in wrong.items() if words} == {}


# These follow from the arguments of the launch file.
SET_BY_LAUNCH = {
    "sim_arm_node": {"robot", "prefix", "modes", "gripper_action"},
    "franka_driver": {"robot_ip", "realtime", "base_frame", "tip_link", "joint_names", "hand"},
    "wxai_driver": {"ip_address", "variant", "base_frame", "tip_link", "joint_names"},
}


def test_a_missing_unit_range_or_moment_is_found():
    spec = ParameterSpec("speed", 1.0, "Greatest speed [m/s].", 0.0, 2.0)
    assert missing(spec, "Speed [m/s], 0 .. 2. Live.") == []
    assert missing(spec, "Speed. At start.") == ["[m/s]", "0 .. 2", "live"]
