# SPDX-License-Identifier: Apache-2.0
"""Each arm's YAML in config/, over decoder.yaml, names every parameter of vla_node, and no other."""

from pathlib import Path

import pytest

from vla_sd_ros.nodes.lifecycle import ManagedNode
from vla_sd_ros.nodes.vla_node import VlaNode
from vla_sd_ros.parameter_files import read, values_of

CONFIG = Path(__file__).parents[2] / "config"
FILES = [CONFIG / name for name in ("franka.yaml", "sim.yaml", "widowx.yaml")]  # the others are for drivers


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_the_file_is_a_manual_of_all_parameters(file):
    values = values_of([*read(CONFIG / "decoder.yaml"), *read(file)], "/vla_node")
    specs = {spec.name: spec for spec in (ManagedNode.AUTOSTART, *VlaNode.TABLE)}
    assert set(values) == set(specs)
    for name, spec in specs.items():
        assert type(values[name]) is type(spec.default), name
        spec.check(values[name])


def test_the_settings_of_the_decoders_are_the_defaults_and_an_arm_says_only_what_it_has_otherwise():
    defaults = {spec.name: spec.default for spec in VlaNode.TABLE if spec.name.startswith("decoder.")}
    assert values_of(read(CONFIG / "decoder.yaml"), "/vla_node") == defaults
    for file in FILES:
        own = {name: value for name, value in values_of(read(file), "/vla_node").items() if name in defaults}
        assert own and [name for name, value in own.items() if value == defaults[name] and name != "decoder.name"] == []
