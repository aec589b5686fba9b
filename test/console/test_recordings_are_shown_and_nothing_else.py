# SPDX-License-Identifier: Apache-2.0
"""The runs of the folder are listed, damaged ones with the reason; their videos can be asked for, no other file can."""

import json

import pytest
from operators import NotingRobot, Operator, console

from vla_sd_ros.console import recordings

VIDEO = bytes(range(256)) * 8


@pytest.fixture
def runs(tmp_path):
    """Two runs, the older one damaged; beside them what is none."""
    folder = tmp_path / "runs"
    for name, summary in (
        ("2026-01-01", "{"),
        (
            "2026-01-02",
            json.dumps(
                {"instruction": "pick up the milk", "success": True, "steps": 31, "elapsed": 6.4, "latency_ms": {"median": 21.3}}
            ),
        ),
    ):
        (folder / name).mkdir(parents=True)
        (folder / name / "summary.json").write_text(summary)
        (folder / name / "video.mp4").write_bytes(VIDEO)
    (folder / "empty").mkdir()
    (folder / "notes.txt").write_text("no run")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "video.mp4").write_bytes(b"secret")
    (folder / "linked").symlink_to(tmp_path / "secret")
    return folder


def test_runs_are_listed_newest_first_and_damaged_ones_with_the_reason(runs):
    newest, damaged = [run for run in recordings.listed(runs) if run["name"].startswith("2026")]
    assert newest == {
        "name": "2026-01-02",
        "files": ["video.mp4", "summary.json"],
        "problem": "",
        "success": True,
        "steps": 31,
        "instruction": "pick up the milk",
        "elapsed": 6.4,
    }
    assert damaged["name"] == "2026-01-01" and damaged["problem"].startswith("its summary cannot be read")


@pytest.mark.parametrize("summary", ["[]", "null", '{"steps": NaN, "success": [1]}', "[" * 100_000, '"' + "x" * (1 << 20) + '"'])
def test_any_summary_is_listed(runs, summary):
    (runs / "2026-01-02" / "summary.json").write_text(summary)
    assert json.dumps(recordings.listed(runs), allow_nan=False)


def test_a_folder_that_is_not_there_has_no_runs(tmp_path):
    assert recordings.listed(tmp_path / "none") == []


def test_videos_are_sent_in_parts_and_no_other_file_is(runs):
    with console(NotingRobot(), runs) as port:
        operator = Operator(port).open()
        address = f"/recordings/2026-01-02/video.mp4?token={operator.token}"
        assert operator.ask("GET", address) == (200, VIDEO)
        assert operator.answered["Content-Type"] == "video/mp4"
        assert operator.ask("GET", address, Range="bytes=4-7") == (206, VIDEO[4:8])
        for path in (
            "2026-01-02/notes.txt",
            "empty/video.mp4",
            "linked/video.mp4",
            "..%2Fsecret/video.mp4",
            "../video.mp4",
            "2026-01-02/..%2F..%2Fsecret%2Fvideo.mp4",
            ".%2F2026-01-02/video.mp4",
            "%00/video.mp4",
        ):
            status, body = operator.ask("GET", f"/recordings/{path}?token={operator.token}")
            assert status == 404 and b"secret" not in body, path
        operator.close()
