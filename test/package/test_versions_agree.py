# SPDX-License-Identifier: Apache-2.0
"""One version in package.xml, setup.py, the changelog and the package of the messages."""
import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]


def test_versions_agree():
    versions = {
        "package.xml": ElementTree.parse(ROOT / "package.xml").findtext("version"),
        "setup.py": version("vla_sd_ros"),
        "CHANGELOG.rst": re.search(r"^(\d+\.\d+\.\d+) \(.*\)\n-+$", (ROOT / "CHANGELOG.rst").read_text(), re.M)[1],
        "msg/package.xml": ElementTree.parse(ROOT / "msg" / "package.xml").findtext("version"),
        "msg/pyproject.toml": tomllib.loads((ROOT / "msg" / "pyproject.toml").read_text())["project"]["version"],
    }
    assert len(set(versions.values())) == 1, versions
