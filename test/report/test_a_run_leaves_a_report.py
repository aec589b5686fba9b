# SPDX-License-Identifier: Apache-2.0
"""From a recorded episode come a video that plays, a figure and a summary whose figures are those of the episode."""

import json
import subprocess

import numpy as np
import pytest
from PIL import Image
from recordings import START

from vla_sd_ros.cli import main
from vla_sd_ros.report import bag, video
from vla_sd_ros.report.summary import write_report

pytest.importorskip("vla_sd_msgs", reason="vla_sd_msgs is not installed")
INSTRUCTION = "pick up the milk and place it in the basket"


def test_video_figure_and_summary_are_there(run_folder, episode_folder):
    summary = write_report(run_folder, {"instruction": INSTRUCTION, "success": True})
    assert summary["missing"] == []
    assert summary == json.loads((run_folder / "summary.json").read_text())
    assert Image.open(run_folder / "report.png").size[0] > 1000
    assert (run_folder / "video.mp4").stat().st_size > 1000


def test_the_video_is_h264_in_real_time_for_browsers(run_folder, episode_folder):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg is not installed")
    frames = video.write_video(bag.read_episode(episode_folder), INSTRUCTION, run_folder / "video.mp4")
    said = subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(run_folder / "video.mp4")], capture_output=True, text=True
    ).stderr
    assert "h264" in said and "yuv420p" in said and " 5 fps" in said
    assert imageio_ffmpeg.count_frames_and_secs(str(run_folder / "video.mp4"))[0] == frames == 10


def test_the_summary_has_the_latency_of_the_steps(run_folder, episode_folder):
    summary = write_report(run_folder, {"instruction": INSTRUCTION, "success": True})
    assert summary["latency_ms"]["median"] == pytest.approx(31.0)  # steps of 24, 26 .. 38 ms
    assert summary["latency_ms"]["stages_median"] == {"vision": 4.0, "prefill": 5.0, "draft": 0.0, "decode": 11.0}
    assert summary["decoding"]["paths"] == {"autoregressive": 1.0}
    assert summary["messages"]["/vla/image"] == 10
    assert summary["versions"]["numpy"] and summary["versions"]["python"]


def test_the_caption_follows_the_step_and_then_says_success(episode_folder):
    episode = bag.read_episode(episode_folder)
    assert video.caption(episode, 0.1) == "waiting for the first step"
    assert video.caption(episode, 0.41).startswith("step 1 ")
    assert video.caption(episode, 0.79).startswith("step 2 ")
    assert video.caption(episode, 1.95) == "success"


def test_a_run_without_images_still_has_a_summary_that_says_so(recording):
    recording.writer.close()
    run = recording.folder.parent
    summary = write_report(run, {"instruction": INSTRUCTION, "success": False})
    assert summary["missing"] == ["video.mp4: no video: the bag has no camera images"]
    assert (run / "report.png").exists() and summary["latency_ms"] is None


def stamped(recording, stamp, encodings=("rgb8",) * 10):
    """Ten images and steps at 5 Hz, all with the stamp that `stamp` makes of their time [s]; 4 bytes a pixel at most."""
    recording.header = lambda time, header=recording.header: header(stamp(time))
    for i, encoding in enumerate(encodings):
        channels = {"rgb8": 3, "bgra8": 4, "mono8": 1}.get(encoding, 1)
        recording.add(
            "image",
            0.2 * i,
            header=recording.header(0.2 * i),
            height=32,
            width=32,
            encoding=encoding,
            is_bigendian=0,
            step=32 * channels,
            data=np.full(32 * 32 * channels, 10 * i, np.uint8),
        )
        recording.step(0.2 * i + 0.05, i)
    recording.writer.close()
    return write_report(recording.folder.parent, {"instruction": INSTRUCTION, "success": False}), bag.read_episode(recording.folder)


@pytest.mark.parametrize(
    "stamp",
    [lambda time: -START * 1e-9, lambda time: 0.0, lambda time: time - START * 1e-9, lambda time: time + 1e7],
    ids=["zero", "equal", "of simulated time", "of another clock"],
)
def test_where_stamps_tell_no_time_the_arrival_counts(recording, stamp):
    summary, episode = stamped(recording, stamp)
    assert summary["missing"] == [] and summary["latency_ms"]["median"] == 20.0
    assert [time for time, _ in episode.images] == pytest.approx([0.2 * i for i in range(10)], abs=1e-6)
    assert [time for time, _ in episode.steps] == pytest.approx([0.2 * i + 0.05 for i in range(10)], abs=1e-6)


def test_images_that_cannot_be_shown_are_counted_and_the_rest_of_the_report_is_made(recording):
    summary, episode = stamped(recording, lambda time: time, ["bgra8", "mono8", "bayer_rggb8", "bayer_rggb8", *["rgb8"] * 6])
    assert summary["missing"] == [
        "video.mp4: 2 images are left out: image encoding 'bayer_rggb8' is not supported: run image_proc's debayer node between, "
        "or use one of " + summary["missing"][0].split("use one of ")[1]
    ]
    assert len(episode.images) == 8 and len(episode.steps) == 10 and summary["latency_ms"]["median"] == 20.0
    assert (recording.folder.parent / "video.mp4").stat().st_size > 1000


@pytest.mark.parametrize(
    "content", [b"[1]", b"3", b"null", b'"x"', b"{", '{"instruction": "öffne"}'.encode("latin-1"), b"[" * 100_000 + b"]" * 100_000]
)
def test_a_summary_that_is_not_ours_is_made_anew(recording, content, capsys):
    recording.writer.close()
    run = recording.folder.parent
    (run / "summary.json").write_bytes(content)
    assert main(["report", str(run)]) == 1  # no images
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and said[0].startswith("report: summary.json tells nothing of the goal (")
    assert json.loads((run / "summary.json").read_text())["missing"]
