# SPDX-License-Identifier: Apache-2.0
"""Whatever an instruction is made of, it stands in video and figure, or one sentence says that no font has it."""

import warnings

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image

from vla_sd_ros.report import fonts, video
from vla_sd_ros.report.summary import write_report

MILK = "牛乳"


@pytest.fixture(autouse=True)
def no_font_is_remembered():
    fonts._choose.cache_clear()
    video._font.cache_clear()
    yield
    fonts._choose.cache_clear()
    video._font.cache_clear()


def write_font(path, characters: str) -> str:
    """A font whose glyphs are black squares."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 900), (900, 900), (900, 0)):
        pen.lineTo(point)
    pen.closePath()
    names = [".notdef", *(f"u{ord(character):04X}" for character in characters)]
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder(names)
    font.setupCharacterMap({ord(character): f"u{ord(character):04X}" for character in characters})
    font.setupGlyf(dict.fromkeys(names, pen.glyph()))
    font.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    font.setupHorizontalHeader(ascent=900, descent=0)
    font.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    font.setupOS2(sTypoAscender=900)
    font.setupPost()
    font.save(path)
    return str(path)


@pytest.mark.parametrize("instruction", [r"pick up the $\frac", "50% of $x_{", "a_b^c $5$", "x" * 400])
def test_an_instruction_is_no_tex(instruction, run_folder, episode_folder):
    assert write_report(run_folder, {"instruction": instruction, "success": True})["missing"] == []
    assert Image.open(run_folder / "report.png").size[0] > 1000


def test_a_script_that_no_font_has_is_one_sentence(run_folder, episode_folder, monkeypatch):
    monkeypatch.setattr(fonts, "_installed", list)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib's own, one for each character
        missing = write_report(run_folder, {"instruction": MILK, "success": True})["missing"]
    assert len(missing) == 1 and "no font of this machine has 乳牛" in missing[0] and "fonts-noto-cjk" in missing[0]
    assert (run_folder / "video.mp4").exists() and (run_folder / "report.png").exists()


def test_the_font_that_has_it_is_taken(run_folder, episode_folder, tmp_path, monkeypatch):
    damaged = tmp_path / "damaged.ttf"
    damaged.write_bytes(b"no font")
    installed = [str(damaged), write_font(tmp_path / "half.ttf", "牛"), write_font(tmp_path / "squares.ttf", MILK + ": sucenodf")]
    monkeypatch.setattr(fonts, "_installed", lambda: installed)
    assert fonts.objection(MILK) == "" and fonts.path_for(MILK) == installed[2]
    assert write_report(run_folder, {"instruction": MILK, "success": True})["missing"] == []
    band = video.draw_frame(np.zeros((8, 8, 3), np.uint8), MILK, "")[video.SIZE + 8 : video.SIZE + 32, 12:60]
    assert (band < 128).all(-1).sum() > 400  # two squares of 16 x 16


def test_a_line_without_spaces_stays_within_the_picture():
    frame = video.draw_frame(np.zeros((8, 8, 3), np.uint8), "籠" * 200, "")
    assert (frame[video.SIZE :, -6:] == 255).all()
