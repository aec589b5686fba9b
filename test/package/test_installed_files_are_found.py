# SPDX-License-Identifier: Apache-2.0
"""launch/, config/ and the nodes are found through the ament index, as launch and `ros2 run` look for them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ament_index_python.packages import get_package_prefix

from vla_sd_ros.ament import share
from vla_sd_ros.node_names import NODES

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("folder", ["config", "config/security", "launch"])
def test_each_file_of_the_repository_is_installed(folder):
    files = [path for path in (ROOT / folder).iterdir() if path.is_file()]
    assert files
    for path in files:
        assert share(folder, path.name).read_text() == path.read_text()


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match="nowhere.yaml is not installed"):
        share("config", "nowhere.yaml")


def executable(node: str) -> Path:
    share()  # puts the wheels' prefix on the index's path
    return Path(get_package_prefix("vla_sd_ros"), "lib", "vla_sd_ros", node)


@pytest.mark.parametrize("node", NODES)
def test_the_node_starts_from_where_launch_looks(node):
    command = [executable(node), "--ros-args", "--params-file", "/nowhere.yaml"]
    environment = dict(os.environ, ROS_DOMAIN_ID="19")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "could not start" in done.stderr
    assert "/nowhere.yaml" in done.stderr


def test_vla_sd_is_on_the_path():
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    assert shutil.which("vla-sd", path=os.pathsep.join(folders))
