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
        **{
            route: tomllib.loads((ROOT / route / "pyproject.toml").read_text())["project"]["version"]
            for route in ("msg", "msg/kilted")
        },
    }
    assert len(set(versions.values())) == 1, versions


def test_both_distributions_of_wheels_bring_what_the_package_uses():
    jazzy, kilted = (tomllib.loads((ROOT / route / "pyproject.toml").read_text()) for route in ("msg", "msg/kilted"))
    names = [{line.partition("==")[0] for line in route["project"]["dependencies"]} for route in (jazzy, kilted)]
    assert names[0] == names[1]
