# SPDX-License-Identifier: Apache-2.0
"""A disk, quota or file at its limit ends a recording with a whole bag; a killed recorder leaves what had been written."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from recordings import Recording

from vla_sd_ros.report import bag
from vla_sd_ros.report.summary import write_report

pytest.importorskip("vla_sd_msgs", reason="vla_sd_msgs is not installed")
FOLDERS = os.pathsep.join((str(Path(__file__).parent), *sys.path))
RECORD = """
    import sys
    from pathlib import Path
    from recordings import Recording

    recording, count = Recording(Path(sys.argv[1])), 0
    try:
        while True:
            recording.image(0.2 * count, count % 256, 160)
            recording.step(0.2 * count, count)
            count += 1
            if count == 35:
                print("many", flush=True)
    except OSError as error:
        recording.writer.close()
        print(count, error.strerror)
"""


def record(folder: Path, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(RECORD), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ, PYTHONPATH=FOLDERS),
        **options,
    )


def whole(folder: Path, count: int) -> None:
    """Index and metadata are there, and every image but the one without room."""
    assert sorted(path.name for path in folder.iterdir()) == ["episode.mcap", "metadata.yaml"]
    read = [message for topic, _, message in bag.read(folder) if topic == "/vla/image"]
    assert len(read) in (count, count + 1) and count > 30
    assert read[-1].data[0] == (len(read) - 1) % 256


def test_a_full_disk_ends_the_recording_with_a_whole_bag_of_which_reports_can_be_made(small_disk, tmp_path):
    process = record(small_disk / "episode")
    *_, last = process.communicate(timeout=60.0)[0].splitlines()
    count, reason = last.split(" ", 1)
    assert (process.returncode, reason) == (0, "No space left on device")
    whole(small_disk / "episode", int(count))

    (small_disk / "summary.json").write_text('{"instruction": "of before"}')
    filler = (small_disk / "filler").open("wb", buffering=0)
    with pytest.raises(OSError):
        while True:
            filler.write(bytes(1 << 12))
    summary = write_report(small_disk, {"instruction": "open it"})
    assert [line.split(":")[0] for line in summary["missing"]] == ["video.mp4", "report.png", "summary.json"]
    assert "of before" in (small_disk / "summary.json").read_text()  # what was there stays
    assert sorted(path.name for path in small_disk.iterdir()) == ["episode", "filler", "summary.json"]

    shutil.move(small_disk / "episode", tmp_path / "episode")
    assert write_report(tmp_path, {"instruction": "open it"})["missing"] == []


def test_a_limited_file_size_ends_the_recording_with_a_whole_bag(tmp_path):
    limit = (9 << 20, 9 << 20)
    process = record(tmp_path / "episode", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    *_, last = process.communicate(timeout=60.0)[0].splitlines()
    count, reason = last.split(" ", 1)
    assert (process.returncode, reason) == (0, "File too large")
    whole(tmp_path / "episode", int(count))


def test_the_bag_of_a_killed_recorder_can_be_read_up_to_its_last_megabyte(tmp_path):
    process = record(tmp_path / "episode")
    assert process.stdout.readline() == "many\n"  # more than two megabytes
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10.0)
    assert not (tmp_path / "episode" / "metadata.yaml").exists()
    images = [message for topic, _, message in bag.read(tmp_path / "episode") if topic == "/vla/image"]
    assert [message.data[0] for message in images[:20]] == list(range(20))


@pytest.mark.parametrize("part", [0.4, 0.6, 0.9])
def test_a_chunk_of_which_only_a_part_was_written_is_left_out(tmp_path, part):
    recording = Recording(tmp_path / "episode")
    for i in range(40):
        recording.image(0.2 * i, i, 160)
    recording.writer.close()
    (tmp_path / "episode" / "metadata.yaml").unlink()
    path = tmp_path / "episode" / "episode.mcap"
    written = path.read_bytes()
    path.write_bytes(written[: int(part * len(written))] + bytes(4 << 20))  # the disk was claimed ahead
    values = [message.data[0] for topic, _, message in bag.read(tmp_path / "episode") if topic == "/vla/image"]
    assert values == list(range(len(values))) and len(values) > 40 * part - 16


def test_no_room_at_the_start_is_an_error_at_once(small_disk):
    (small_disk / "filler").write_bytes(bytes(6 << 20))
    with pytest.raises(OSError, match="No space left"):
        Recording(small_disk / "episode")
