# SPDX-License-Identifier: Apache-2.0
"""Each dependency has a line in the README, a pin in the constraints, and the pin lies in setup.py's range."""
import re
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
REQUIREMENTS = {canonicalize_name(r.name): r for r in map(Requirement, requires("vla_sd_ros"))}


def test_the_table_of_the_readme_names_each_dependency():
    rows = re.findall(r"^\| ([\w-]+) \| ([^|]+) \| (?:always|`\w+`(?:, `\w+`)*) \|$", (ROOT / "README.md").read_text(), re.M)
    assert {canonicalize_name(name) for name, _ in rows} == set(REQUIREMENTS)


def test_the_constraints_pin_each_dependency_within_its_range():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {canonicalize_name(name): pin for name, _, pin in (line.partition("==") for line in lines) if pin}
    for name, requirement in REQUIREMENTS.items():
        assert name in pins, f"{name} is not pinned in constraints.txt"
        assert requirement.specifier.contains(pins[name]), f"{requirement} does not allow {pins[name]}"


def test_continuous_integration_runs_the_command_of_the_readme():
    command = re.search(r"^## Test\n\n    (.+)$", (ROOT / "README.md").read_text(), re.M)[1]
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == f"exec {command}"
