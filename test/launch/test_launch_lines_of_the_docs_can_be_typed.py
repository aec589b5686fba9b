# SPDX-License-Identifier: Apache-2.0
"""Each `ros2 launch vla_sd_ros ...` of the README and the documentation is one that the launch files take, as it is written there."""

import re
import shlex
from pathlib import Path

import pytest

from vla_sd_ros import prepare as module
from vla_sd_ros.bringup import LAUNCH_FILES
from vla_sd_ros.prepare import prepare

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINE = re.compile(r"^ {4,}ros2 launch vla_sd_ros ((?:.*\\\n)*.*)", re.M)  # goes on in the next line after a backslash
LINES = [
    pytest.param(shlex.split(found.replace("\\\n", " "), comments=True), id=f"{page.name}: {found.split(chr(10))[0]}")
    for page in PAGES
    if not page.name.startswith("verified-")
    for found in LINE.findall(page.read_text())
]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The user's folder. Drivers, messages and policies count as there: here it is about what is typed."""
    monkeypatch.setattr(module, "_refuse_missing", lambda *_: None)
    monkeypatch.setattr(module, "_refuse_policy", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_are_some():
    assert len(LINES) > 15


@pytest.mark.parametrize("words", LINES)
def test_the_line_can_be_typed(words, elsewhere):
    file, *rest = words
    arguments = {argument.name: argument for argument in LAUNCH_FILES[file][0]}
    given = dict(word.split(":=", 1) for word in rest)
    assert set(given) <= set(arguments)
    for name, value in given.items():
        assert not arguments[name].choices or value in arguments[name].choices
        given[name] = value = value.replace("$PWD", str(elsewhere))
        if arguments[name].file:  # one of the user's own
            example = ROOT / "config" / "franka_controllers.yaml"
            Path(value).write_text(
                example.read_text().replace("cartesian_impedance_controller", given.get("controller_name", ""))
                if "controllers" in name
                else ""
            )
    assert prepare(file, given, ROOT, lambda package: "/").plan
