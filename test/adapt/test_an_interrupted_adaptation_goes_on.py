# SPDX-License-Identifier: Apache-2.0
"""Killed wherever a file gets its name, or out of room, and started again: the same bundle as without an interruption."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="needs the extra [data]")

from adapting import command, write_recordings  # noqa: E402

from vla_sd_ros import policy  # noqa: E402
from vla_sd_ros.cli import main  # noqa: E402
from vla_sd_ros.inputs import BadInput  # noqa: E402
from vla_sd_ros.training import answers  # noqa: E402
from vla_sd_ros.training.loop import load_state  # noqa: E402


@pytest.fixture(scope="module")
def forks():
    """From a job to how it ended; see forks.py."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("forks.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )

    def run(arguments, **options) -> dict:
        process.stdin.write(json.dumps({"arguments": arguments, **options}) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield run
    process.stdin.close()
    process.wait(20)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, forks):
    """A policy, recordings, and the bundle of them that nothing interrupted."""
    root = tmp_path_factory.mktemp("whole")
    policy.write_random(root / "policy")
    write_recordings(root / "recordings", count=5, steps=4)
    assert forks(made(root, root / "adapted"))["status"] == 0
    return root


def made(root, output):
    return command(root / "policy", root / "recordings", output)


def content(bundle):
    """All that a bundle is, but for the times that were measured, and the trees that were chosen by them."""
    meta = json.loads((bundle / "bundle.json").read_text())
    rows = json.loads((bundle / "work" / "measured.json").read_text())["rows"]
    settings = json.loads((bundle / "work" / "settings.json").read_text())
    drafting = ("naive_sd", "spec_vla", "kerv", "heisd")
    return (
        meta["files"],
        {name: value for name, value in settings.items() if not name.endswith("_tree")},
        {row["name"]: (row["passes"], row["agreed"]) for row in rows if not row["name"].startswith(drafting)},
    )


@pytest.mark.parametrize("step", [2, 9])
def test_killed_again_and_again(whole, tmp_path, forks, step):
    """Before every second to sixth file gets its name, and with the trainings' states saved at each step before every ninth."""
    kills, ended = 0, -signal.SIGKILL
    while ended == -signal.SIGKILL and kills < 50:
        ended = forks(made(whole, tmp_path / "adapted"), kill_at=step + kills % 5, save_always=step == 9)["status"]
        kills += ended == -signal.SIGKILL
    assert ended == 0 and kills >= 5
    assert content(tmp_path / "adapted") == content(whole / "adapted")


@pytest.mark.parametrize("room", [5_000, 60_000, 900_000, 1_300_000])
def test_out_of_room_at_any_stage(whole, small_disk, forks, room, capfd):
    output, ballast = small_disk / "adapted", small_disk / "ballast"
    free = os.statvfs(small_disk)
    ballast.write_bytes(bytes(free.f_bavail * free.f_frsize - room))
    assert forks(made(whole, output))["status"] == 2
    assert not (output / "bundle.json").exists()
    ballast.unlink()
    assert forks(made(whole, output))["status"] == 0
    assert content(output) == content(whole / "adapted")


def test_the_files_that_a_kill_has_left_half_are_not_taken(whole, tmp_path, forks):
    assert forks(made(whole, tmp_path / "adapted"), kill_at=6)["status"] == -signal.SIGKILL
    half = list((tmp_path / "adapted" / "work").rglob("part.*"))
    assert len(half) == 1
    half[0].write_bytes(np.random.default_rng(0).bytes(100))
    assert forks(made(whole, tmp_path / "adapted"))["status"] == 0
    assert content(tmp_path / "adapted") == content(whole / "adapted")


@pytest.mark.parametrize("name", ["settings.json", "measured.json", "skipped.json", "calibrate"])
def test_half_done_work_that_is_damaged_is_named_and_removing_it_mends_it(whole, tmp_path, capsys, name):
    output = tmp_path / "adapted"
    shutil.copytree(whole / "adapted", output)
    for path in ("bundle.json", *(("work/settings.json", "work/measured.json") if name == "calibrate" else ())):
        (output / path).unlink()
    spoilt = next((output / "work" / name).glob("*.npz")) if name == "calibrate" else output / "work" / name
    spoilt.write_bytes(b"")
    assert main(made(whole, output)) == 2
    said = capsys.readouterr().err
    assert f"{spoilt} cannot be read" in said and "remove it, and give the same command again" in said and said.count("\n") == 1
    if name != "skipped.json":  # made while the policy is asked
        spoilt.unlink()
        assert main(made(whole, output)) == 0


def test_damaged_answers_and_states_are_told_as_well(tmp_path):
    (tmp_path / "0123456789abcdef.npz").write_bytes(b"")
    with pytest.raises(BadInput, match="0123456789abcdef.npz cannot be read .*: remove it, and give the same command again"):
        answers.answered(tmp_path)
    (tmp_path / "0123456789abcdef-000.safetensors").write_bytes(b"")
    with pytest.raises(BadInput, match="remove it and 0123456789abcdef.npz, and give"):
        answers.load_whole(tmp_path / "0123456789abcdef-000.safetensors")
    (tmp_path / answers.ENDS).write_bytes(b"")
    with pytest.raises(BadInput, match="remove it, and give the same command again"):
        answers.load_whole(tmp_path / answers.ENDS)
    (tmp_path / "state.pt").write_bytes(b"no state")
    with pytest.raises(BadInput, match="the state of the training in .*state.pt cannot be read .*remove it to begin anew"):
        load_state(tmp_path / "state.pt")
