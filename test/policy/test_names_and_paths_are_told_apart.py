# SPDX-License-Identifier: Apache-2.0
"""A policy's name is one that is shipped, whatever lies in the current folder; a path has a / in it."""

from pathlib import Path

import pytest

from vla_sd_ros import checkpoint_places, policy
from vla_sd_ros.policy import checkpoint, drafter


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with a policy of somebody else that is called as a shipped one, and one of another name."""
    for name in ("libero", "mine"):
        policy.write_random(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_of_the_same_name_does_not_hide_the_shipped_policy(here):
    assert checkpoint.find("libero") == checkpoint_places.SHIPPED / "libero"
    (here / "libero" / drafter.FILE).touch()
    assert drafter.comes_with("libero") == (checkpoint_places.SHIPPED / "libero" / drafter.FILE).is_file()
    assert drafter._locate("./libero") == Path("libero") / drafter.FILE


@pytest.mark.parametrize("path", ["./libero", "libero/", Path("libero"), "../{here}/libero", "{absolute}/libero"])
def test_a_path_is_the_folder(here, path):
    given = path if isinstance(path, Path) else path.format(here=here.name, absolute=here)
    assert checkpoint.find(given).resolve() == here / "libero"


def test_a_name_that_is_not_shipped_says_how_the_folder_is_given(here):
    with pytest.raises(
        policy.CheckpointError, match="'mine' was not found: .*libero.*; for the directory that is here give ./mine"
    ):
        policy.load("mine")
    assert policy.load("./mine").unnorm_key == "random"
