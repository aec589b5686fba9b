# SPDX-License-Identifier: Apache-2.0
"""The episode as a video: camera images with the instruction and the step drawn in, in real time."""

import textwrap
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vla_sd_ros.report import fonts
from vla_sd_ros.report.bag import RecordedEpisode

SIZE = 512  # [pixels], width and height of the picture; H.264 wants even numbers
BAND = 96  # [pixels], height of the text below it
LEAD = 1.0  # [s] shown before the first and after the last step


def write_video(episode: RecordedEpisode, instruction: str, path: Path) -> int:
    """Write an H.264 MP4 that browsers play; returns the number of frames. Raises ValueError without images.

    Frames are repeated so that the video runs at the images' mean rate.
    """
    frames = _frames_of_goal(episode)
    if not frames:
        raise ValueError("no video: the bag has no camera images")
    import imageio_ffmpeg  # needs its own binary; everything else works without

    times = np.array([time for time, _ in frames])
    rate = 1 / np.median(np.diff(times)) if len(times) > 1 else 5.0
    writer = imageio_ffmpeg.write_frames(
        str(path),
        (SIZE, SIZE + BAND),
        fps=round(float(rate), 2),
        codec="libx264",
        macro_block_size=2,
        pix_fmt_out="yuv420p",
        output_params=["-crf", "20", "-preset", "veryfast", "-movflags", "+faststart"],
    )
    writer.send(None)
    for time, image in frames:
        writer.send(draw_frame(image, instruction, caption(episode, time)).tobytes())
    writer.close()
    return len(frames)


def caption(episode: RecordedEpisode, time: float) -> str:
    """What is true at a time [s] of the episode: step, decoder, latency, success."""
    if episode.success_time is not None and time >= episode.success_time:
        return "success"
    past = [step for stamp, step in episode.steps if stamp <= time + 1e-3]
    if not past:
        return "waiting for the first step"
    return f"step {past[-1].step + 1}   {past[-1].decoder}/{past[-1].path}   {past[-1].total_ms:.0f} ms"


def draw_frame(image: np.ndarray, instruction: str, text: str) -> np.ndarray:
    """One video frame (SIZE + BAND, SIZE, 3) uint8 RGB: the image scaled up, below it instruction and text."""
    canvas = Image.new("RGB", (SIZE, SIZE + BAND), "white")
    canvas.paste(Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.LANCZOS), (0, 0))
    draw = ImageDraw.Draw(canvas)
    font = _font(instruction)
    fitting = int((SIZE - 24) * len(instruction) / max(1.0, draw.textlength(" ".join(instruction.split()), font)))
    lines = textwrap.wrap(instruction, max(1, fitting))[:2]
    draw.multiline_text((12, SIZE + 8), "\n".join(lines), "black", font)
    draw.text((12, SIZE + BAND - 32), text, (90, 90, 90), ImageFont.load_default(18))
    return np.asarray(canvas)


@cache
def _font(text: str) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(18) if text.isascii() else ImageFont.truetype(fonts.path_for(text), 18)


def _frames_of_goal(episode: RecordedEpisode) -> list[tuple[float, np.ndarray]]:
    """Images from shortly before the first to shortly after the last step; all of them when there was no step."""
    if not episode.steps:
        return episode.images
    first, last = episode.steps[0][0] - LEAD, episode.steps[-1][0] + LEAD
    return [(time, image) for time, image in episode.images if first <= time <= last]
