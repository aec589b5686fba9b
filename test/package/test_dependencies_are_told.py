# SPDX-License-Identifier: Apache-2.0
"""Each dependency has a line in docs/dependencies.md, a pin in the constraints, and the pin lies in setup.py's range."""

import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
REQUIREMENTS = {canonicalize_name(r.name): r for r in map(Requirement, requires("vla_sd_ros"))}


def test_the_table_of_the_docs_names_each_dependency():
    page = (ROOT / "docs" / "dependencies.md").read_text()
    rows = re.findall(r"^\| ([\w-]+) \| ([^|]+) \| (?:always|`[\w-]+`(?:, `[\w-]+`)*) \|$", page, re.M)
    assert {canonicalize_name(name) for name, _ in rows} == set(REQUIREMENTS)


def test_the_constraints_pin_each_dependency_within_its_range():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {canonicalize_name(name): pin for name, _, pin in (line.partition("==") for line in lines) if pin}
    for name, requirement in REQUIREMENTS.items():
        assert name in pins, f"{name} is not pinned in constraints.txt"
        assert requirement.specifier.contains(pins[name]), f"{requirement} does not allow {pins[name]}"


ELSEWHERE = {"ray", "qdrant-client", "prometheus-client"}  # what only those need who use more than one machine
WITHOUT = f"""
import sys
from importlib import import_module
sys.modules |= dict.fromkeys({sorted(name.replace("-", "_") for name in ELSEWHERE)})
for name in "cli", "sim.collect", "bench.libero", "adapt.command", "adapt.stages", "training.train", "retrieval":
    import_module("vla_sd_ros." + name)
from vla_sd_ros.retrieval.qdrant import DatabaseError, QdrantDatabase
try:
    QdrantDatabase(":memory:", "0123456789abcdef")
except DatabaseError as error:
    print(error)
"""


def test_what_more_than_one_machine_needs_comes_with_its_extra_alone():
    needed = [r for r in map(Requirement, requires("vla_sd_ros")) if canonicalize_name(r.name) in ELSEWHERE]
    assert {canonicalize_name(r.name) for r in needed} == ELSEWHERE
    assert all("extra ==" in str(r.marker) for r in needed)


def test_one_machine_does_without():
    pytest.importorskip("mujoco", reason="needs the extra [sim]")
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "pip install 'vla_sd_ros[fleet]'" in done.stdout


def test_continuous_integration_runs_the_commands_of_the_readme_and_no_others():
    told, section = re.search(r"^## Test\n\n((?:    [^\n]+\n)+)(.+?)^## ", (ROOT / "README.md").read_text(), re.M | re.S).groups()
    run = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line and not line.startswith("#")]
    before = ["set -eu", 'cd "$(dirname "$0")/.."', *(line for line in run if line.startswith("command -v"))]
    assert [line.removeprefix("exec ") for line in run] == before + [line.strip() for line in told.splitlines()]
    installed = re.findall(r"apt-get install -y --no-install-recommends (\w+)", "\n".join(run))
    assert set(installed) <= set(re.findall(r"\w+", told + section))
    assert "- run: .ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()


def test_the_container_runs_the_command_of_the_readme():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert lines[-1] == 'CMD ["make", "demo"]' and "    make demo" in (ROOT / "README.md").read_text().splitlines()


def test_continuous_integration_installs_what_the_docs_say_on_an_ordinary_installation():
    def installed(text: str) -> set[str]:
        lines = re.findall(r"pip install (.+)", text.replace("\\\n", " "))
        return {part.strip("'").partition("<")[0] for line in lines for part in line.partition("#")[0].split()}

    docs = (ROOT / "docs" / "ros.md").read_text()
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text().partition("  colcon:")[2]
    assert installed(docs) == installed(workflow.replace("${{ matrix.numpy }}", "numpy")) and "regex" in installed(docs)
