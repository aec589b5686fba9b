# SPDX-License-Identifier: Apache-2.0
"""Each field of each message has a comment, and each message file is built."""

import re
from pathlib import Path

import pytest

MSG = Path(__file__).parents[2] / "msg"
FILES = sorted(path for kind in ("msg", "srv", "action") for path in (MSG / kind).iterdir())
FIELD = re.compile(r"^[a-zA-Z_]\w*(/\w+)?(\[\d*\])? +\w+( +[^=\s]+)?\s*(#.*)?$")


def unexplained(text: str) -> list[str]:
    """Fields without a comment of their own. A blank line ends what a comment line explains."""
    fields, explained = [], False
    for line in text.splitlines():
        if line.startswith("#"):
            explained = True
        elif not line or line == "---":
            explained = False
        elif FIELD.match(line) and not explained and "#" not in line:
            fields.append(line)
    return fields


def test_the_check_itself_sees_a_bare_field():
    assert unexplained("# metres\nfloat32 x\n\nfloat32[7] y\nbool success") == ["float32[7] y", "bool success"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_field_is_explained(path):
    assert unexplained(path.read_text()) == []


def test_cmake_builds_every_file():
    listed = re.findall(r"^  ((?:msg|srv|action)/\S+)$", (MSG / "CMakeLists.txt").read_text(), re.M)
    assert sorted(listed) == sorted(str(path.relative_to(MSG)) for path in FILES)
