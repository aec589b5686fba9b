# SPDX-License-Identifier: Apache-2.0
"""Each YAML in config/ names every parameter of vla_node, and no other."""
from pathlib import Path

import pytest
import yaml

from vla_sd_ros.nodes.lifecycle import ManagedNode
from vla_sd_ros.nodes.vla_node import VlaNode

CONFIG = Path(__file__).parents[2] / "config"
FILES = [CONFIG / name for name in ("franka.yaml", "sim.yaml", "widowx.yaml")]  # the others are for drivers


def flat(tree: dict, prefix: str = "") -> dict:
    """{'a': {'b': 1}} -> {'a.b': 1}"""
    items = {}
    for key, value in tree.items():
        items |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return items


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_the_file_is_a_manual_of_all_parameters(file):
    values = flat(yaml.safe_load(file.read_text())["/**/vla_node"]["ros__parameters"])
    specs = {spec.name: spec for spec in (ManagedNode.AUTOSTART, *VlaNode.TABLE)}
    assert set(values) == set(specs)
    for name, spec in specs.items():
        assert type(values[name]) is type(spec.default), name
        spec.check(values[name])
